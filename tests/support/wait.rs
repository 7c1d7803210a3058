//! Waiting for a condition, never for a time.

use std::time::{Duration, Instant};

const INTERVAL: Duration = Duration::from_millis(20);

/// Long enough for a busy machine; only failing tests ever wait so long.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// Asks again and again until `condition` is true, and fails with `what` after [`DEADLINE`].
pub(crate) async fn wait_until(what: &str, condition: impl AsyncFnMut() -> bool) {
    wait_until_within(what, DEADLINE, condition).await;
}

/// [`wait_until`] with another deadline.
pub(crate) async fn wait_until_within(
    what: &str,
    deadline: Duration,
    mut condition: impl AsyncFnMut() -> bool,
) {
    let end = Instant::now() + deadline;
    while !condition().await {
        assert!(Instant::now() < end, "waited {} s in vain until {what}", deadline.as_secs());
        tokio::time::sleep(INTERVAL).await;
    }
}

#[tokio::test]
async fn returns_when_the_condition_holds() {
    let mut asked = 0;
    wait_until("it was asked three times", async || {
        asked += 1;
        asked == 3
    })
    .await;
    assert_eq!(asked, 3);
}

#[tokio::test]
#[should_panic(expected = "in vain until it rains")]
async fn says_what_it_waited_for() {
    wait_until_within("it rains", Duration::ZERO, async || false).await;
}
