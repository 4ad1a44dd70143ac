//! The wiring of the first step.

fn main() -> std::process::ExitCode {
    shared::step::run(task1::prepare)
}
