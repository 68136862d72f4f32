//! Asks the owner once more, right before the first of its code runs in a container.

use async_trait::async_trait;
use garden::ContainerInfo;

use crate::container::Container;
use crate::executor::Executor;
use crate::progress::Progress;

/// Making a container takes time, in which its owner may have lost the right to run anything in it.
#[async_trait]
pub trait Gate: Send + Sync {
    /// Whether the recipe of `container` may begin; the error is a reason for whoever wanted it. It may wait: stopping
    /// or deleting the container ends the wait. Asked again when this program was restarted before anything had run.
    async fn may_begin(&self, container: &Container) -> std::result::Result<(), String>;
}

/// Nothing of the owner's has happened in it, in whichever life.
pub(crate) fn is_untouched(container: &ContainerInfo, progress: &Progress) -> bool {
    container.processes.is_empty() && progress.ended.is_empty() && !progress.healthy
}

impl Executor {
    pub(crate) async fn admitted(&self, container: &Container) -> std::result::Result<(), String> {
        match self.gate.get() {
            Some(gate) => gate.may_begin(container).await,
            None => Ok(()),
        }
    }
}
