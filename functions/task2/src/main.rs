//! The wiring of the second step.

fn main() -> std::process::ExitCode {
    shared::step::run(task2::complete)
}
