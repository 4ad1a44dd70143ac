//! Ending on one's own terms: what Lambda kills at a function's deadline leaves no word of why.

use lambda_runtime::Context;
use std::time::{Duration, SystemTime};
use tokio::time::timeout;

/// What is left for the answer and the log once the work has been given up.
const MARGIN: Duration = Duration::from_millis(500);

/// What `work` gives, or `None` where it is not done half a second before the invocation's deadline.
pub async fn before_deadline<T>(context: &Context, work: impl Future<Output = T>) -> Option<T> {
    let left = context.deadline().duration_since(SystemTime::now()).unwrap_or_default();
    timeout(left.saturating_sub(MARGIN), work).await.ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::{pending, ready};

    #[tokio::test]
    async fn work_ends_before_the_deadline_or_is_given_up() {
        let in_one_second = SystemTime::now() + Duration::from_secs(1);
        let millis = in_one_second.duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_millis();
        let mut context = Context::default();
        context.deadline = u64::try_from(millis).expect("before the year 500 million");
        assert_eq!(before_deadline(&context, ready(1)).await, Some(1));
        assert_eq!(before_deadline(&context, pending::<u8>()).await, None);
        assert!(SystemTime::now() < in_one_second);
    }
}
