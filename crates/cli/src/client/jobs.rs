//! Jobs that a server does after it has answered: followed until they end.

use reqwest::{Method, StatusCode};

use super::{Body, Client, Pace, Reply};
use crate::error::{Error, Result};
use crate::resources::Job;

impl Client {
    /// Waits for the job behind a 202; an answer without one is done already.
    pub async fn finish(&self, reply: &Reply) -> Result<()> {
        self.settle(reply, true).await.map(drop)
    }

    /// Follows the job behind a 202; answers whether it is done. Without `to_the_end`, a job that only waits for a
    /// service broker is left to itself.
    pub async fn settle(&self, reply: &Reply, to_the_end: bool) -> Result<bool> {
        let Some(location) =
            reply.location.as_deref().filter(|_| reply.status == StatusCode::ACCEPTED)
        else {
            return Ok(true);
        };
        let mut pace = Pace::default();
        loop {
            let reply = self.send(Method::GET, location, &[], Body::None).await?;
            let job: Job = reply.json()?;
            self.notices
                .lock()
                .expect("no holder of this lock panics")
                .extend(job.warnings.into_iter().map(|w| w.detail));
            match job.state.as_str() {
                "COMPLETE" => return Ok(true),
                "POLLING" if !to_the_end => return Ok(false),
                "FAILED" => {
                    let details: Vec<String> =
                        job.errors.into_iter().map(|error| error.detail).collect();
                    return Err(match details.as_slice() {
                        [] => Error::Failed(format!(
                            "Job ({}) failed with no error. This is unexpected, contact your operator for details.",
                            job.guid
                        )),
                        details => Error::Job { guid: job.guid, detail: details.join("\n") },
                    });
                }
                _ => pace.wait(reply.took).await,
            }
        }
    }
}
