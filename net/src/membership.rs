//! Who is in the cluster, where nothing else says so: a list in the configuration, or a file that may change.
//!
//! Both report the whole view as [`Input::Members`]; what follows from it is the core's business.

mod file;
mod parse;

use std::path::PathBuf;

use longshore_core::input::Input;
use longshore_core::members::{Member, Roster};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

pub use self::parse::{MembershipError, parse};
use crate::driver::Inputs;

/// Where membership comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Membership {
    /// These members, for as long as the agent runs.
    Static(Vec<Member>),
    /// The members that a TOML file lists; it is read again whenever it changes.
    File(PathBuf),
}

/// A source of membership that is being followed. Dropping it ends that.
#[derive(Debug)]
pub struct Following {
    _stop: DropGuard,
    /// Ends after the guard was dropped. `None` where there is nothing to follow.
    task: Option<JoinHandle<()>>,
}

impl Membership {
    /// Reports the view, and from then on every change of it. Has to be called in a tokio runtime.
    ///
    /// # Errors
    /// When the file cannot be read or says something wrong: an agent does not start on half a view. Later on, a bad
    /// file is logged and the last good view stays.
    pub fn follow(self, inputs: Inputs) -> Result<Following, MembershipError> {
        let stop = CancellationToken::new();
        let task = match self {
            Self::Static(members) => {
                inputs.send(Input::Members(Roster::new(members)));
                None
            }
            Self::File(path) => {
                let follower = file::Follower::open(path)?;
                inputs.send(Input::Members(Roster::new(follower.members().to_vec())));
                Some(tokio::spawn(follower.run(inputs, stop.clone())))
            }
        };
        Ok(Following { _stop: stop.drop_guard(), task })
    }
}

impl Following {
    /// Stops following and waits until nothing more will be reported.
    pub async fn stop(self) {
        let Self { _stop, task } = self;
        drop(_stop);
        if let Some(task) = task {
            // It fails only when the runtime is shutting down.
            let _ = task.await;
        }
    }
}

#[cfg(test)]
mod tests;
