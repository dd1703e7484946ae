//! All nodes pull at once; some are killed on the way; what it cost is added up.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;

use super::cluster::{Cluster, Node};
use super::options::Options;
use super::pull::{Progress, Puller};
use super::report::{Measured, Outcome, Report};
use super::source::Source;
use super::{kill, watch};
use crate::http::client::Client;
use crate::proc;

/// What one agent used.
#[derive(Clone, Copy, Debug, Default)]
struct Used {
    cpu: Duration,
    peak_memory_bytes: u64,
}

impl Used {
    /// What the agent has used until now; nothing for one that is gone.
    fn by(node: &Node) -> Self {
        let Some(process) = node.process() else { return Self::default() };
        Self {
            cpu: proc::cpu_time(process).unwrap_or_default(),
            peak_memory_bytes: proc::peak_memory_bytes(process).unwrap_or_default(),
        }
    }
}

/// Pulls on all nodes, stops the agents, and says how it went.
pub(super) async fn run(mut cluster: Cluster, source: &Source, options: &Options) -> (Vec<Outcome>, Report) {
    // A connection pool of its own: metrics are not to wait behind pulls.
    let Ok(client) = Client::new() else {
        cluster.kill().await;
        let outcomes = vec![Outcome::Failed("no TLS set-up".to_owned()); options.nodes];
        let report = Report::new(&outcomes, &Measured::default());
        return (outcomes, report);
    };
    let progresses: Vec<Arc<Progress>> = cluster.nodes.iter().map(|_| Arc::default()).collect();
    let watched: Vec<_> = cluster
        .nodes
        .iter()
        .zip(&progresses)
        .map(|(node, progress)| watch::Watched::new(node.name.clone(), node.status, Arc::clone(progress)))
        .collect();
    let bars = watch::Bars::new(&watched);
    let before: Vec<Used> = cluster.nodes.iter().map(Used::by).collect();
    let moments = kill::plan(options.nodes, options.kill, options.seed);
    let start = Instant::now();
    let pulls = cluster.nodes.iter_mut().zip(&progresses).zip(&moments).enumerate().map(
        |(number, ((node, progress), moment))| {
            let bars = &bars;
            let client = client.clone();
            let watched = &watched[number];
            async move {
                let puller = Puller {
                    client: client.clone(),
                    mirror: format!("http://{}", node.mirror),
                    registry: source.upstream().base_url.clone(),
                    namespace: source.upstream().host.clone(),
                    repository: source.repository().to_owned(),
                    progress: Arc::clone(progress),
                };
                let death = async {
                    match moment {
                        Some(thousandths) => progress.reached(*thousandths).await,
                        None => std::future::pending().await,
                    }
                };
                let result = tokio::select! {
                    // A victim's requests end with it: they would fall back to the registry, which a dead node does not.
                    biased;
                    () = death => None,
                    result = pull(puller, source) => Some(result),
                };
                let (outcome, word, used) = match result {
                    None => {
                        watched.ask(&client).await;
                        let used = Used::by(node);
                        node.kill().await;
                        (Outcome::Killed, "killed".to_owned(), Some(used))
                    }
                    Some(Ok(bytes)) => {
                        let time = start.elapsed();
                        watched.ask(&client).await;
                        (Outcome::Pulled { time, bytes }, format!("{:.2} s", time.as_secs_f64()), None)
                    }
                    Some(Err(reason)) => (Outcome::Failed(reason), "FAILED".to_owned(), None),
                };
                bars.finish(number, watched, &word);
                (outcome, used)
            }
        },
    );
    let results = tokio::select! {
        results = join_all(pulls) => results,
        () = bars.follow(&watched, &client) => Vec::new(),
    };
    watch::ask_all(&watched, &client).await;
    let mut measured = Measured::default();
    for ((node, before), (_, used)) in cluster.nodes.iter().zip(&before).zip(&results) {
        let used = used.unwrap_or_else(|| Used::by(node));
        measured.cpu += used.cpu.saturating_sub(before.cpu);
        measured.peak_memory_bytes = measured.peak_memory_bytes.max(used.peak_memory_bytes);
    }
    let counted: Vec<_> = watched.iter().map(watch::Watched::counted).collect();
    measured.delivered_bytes = progresses.iter().map(|progress| progress.delivered()).sum();
    measured.fallbacks = progresses.iter().map(|progress| progress.fallbacks()).sum();
    measured.peer_bytes = counted.iter().map(|counted| counted.peer_bytes).sum();
    measured.origin_bytes = source.sent_bytes().unwrap_or_else(|| {
        let agents: u64 = counted.iter().map(|counted| counted.origin_bytes).sum();
        agents + progresses.iter().map(|progress| progress.fallback_bytes()).sum::<u64>()
    });
    cluster.stop().await;
    let outcomes: Vec<Outcome> = results.into_iter().map(|(outcome, _)| outcome).collect();
    let report = Report::new(&outcomes, &measured);
    (outcomes, report)
}

/// In a task of its own, so that hashing uses all cores.
async fn pull(puller: Puller, source: &Source) -> Result<u64, String> {
    let root = source.root();
    let mut task = AbortOnDrop(tokio::spawn(async move { puller.image(root).await }));
    match (&mut task.0).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) => Err(error.to_string()),
        Err(error) => Err(format!("the pull broke down: {error}")),
    }
}

/// A task that ends with its owner.
struct AbortOnDrop<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
