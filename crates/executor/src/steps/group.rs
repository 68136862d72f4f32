//! Steps side by side.

use base::CancellationToken;
use futures::StreamExt;
use futures::future::{BoxFuture, join_all};
use futures::stream::FuturesUnordered;

use super::Outcome;
use crate::failure::Failure;

/// What it means when one of codependent steps ends well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It was not supposed to end.
    Failure,
    /// The others end with it.
    Together,
    /// The others go on.
    Alone,
}

pub(crate) async fn parallel(steps: Vec<BoxFuture<'_, Outcome>>) -> Outcome {
    let failures: Vec<_> = join_all(steps).await.into_iter().filter_map(Result::err).collect();
    Failure::joined(&failures)
}

/// All at once; when one fails the others are cancelled through `cancel`. Waits for all.
pub(crate) async fn codependent(
    steps: Vec<BoxFuture<'_, Outcome>>,
    cancel: &CancellationToken,
    end: End,
) -> Outcome {
    let mut steps: FuturesUnordered<_> = steps.into_iter().collect();
    let (mut failures, mut ended) = (Vec::new(), false);
    while let Some(result) = steps.next().await {
        match (result, end) {
            (Err(failure), _) => {
                failures.push(failure);
                cancel.cancel();
            }
            (Ok(()), End::Failure) => {
                failures.push(Failure::told("Codependent step exited"));
                cancel.cancel();
            }
            (Ok(()), End::Together) => {
                ended = true;
                cancel.cancel();
            }
            (Ok(()), End::Alone) => {}
        }
    }
    // Being cancelled because another ended well is no failure.
    match Failure::joined(&failures) {
        Err(Failure::Cancelled | Failure::Overstayed) if ended => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn ends(result: Outcome) -> BoxFuture<'static, Outcome> {
        async move { result }.boxed()
    }

    fn waits(cancel: &CancellationToken) -> BoxFuture<'static, Outcome> {
        let cancel = cancel.clone();
        async move {
            cancel.cancelled().await;
            Err(Failure::Cancelled)
        }
        .boxed()
    }

    #[tokio::test]
    async fn parallel_waits_for_all_and_joins_what_went_wrong() {
        let steps =
            vec![ends(Err(Failure::told("a"))), ends(Ok(())), ends(Err(Failure::told("b")))];
        assert_eq!(parallel(steps).await, Err(Failure::told("a; b")));
        assert_eq!(parallel(vec![ends(Ok(()))]).await, Ok(()));
    }

    #[tokio::test]
    async fn one_end_ends_codependent_steps() {
        let cancel = CancellationToken::new();
        let failing = vec![waits(&cancel), ends(Err(Failure::told("web died")))];
        assert_eq!(
            codependent(failing, &cancel, End::Failure).await,
            Err(Failure::told("web died"))
        );

        let cancel = CancellationToken::new();
        let ending = vec![waits(&cancel), ends(Ok(()))];
        assert_eq!(
            codependent(ending, &cancel, End::Failure).await,
            Err(Failure::told("Codependent step exited"))
        );

        let cancel = CancellationToken::new();
        let together = vec![waits(&cancel), ends(Ok(()))];
        assert_eq!(codependent(together, &cancel, End::Together).await, Ok(()));
    }
}
