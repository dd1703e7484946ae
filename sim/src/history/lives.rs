//! Files of many agents, sorted into lives: one agent from its start, or from where its recording begins, to its end.

use longshore_core::journal::file::End;
use longshore_core::names::PeerId;

use crate::replay::Journal;

/// What is recorded of one agent without a gap: files that follow each other.
#[derive(Clone, Debug)]
pub struct Life {
    /// The node's name; from the second life on with its number.
    pub label: String,
    /// The node's name.
    pub name: String,
    /// The agent's identity.
    pub peer: PeerId,
    /// The files.
    pub journals: Vec<Journal>,
    /// Where the files came from, for messages.
    pub files: Vec<String>,
    /// It begins with the agent's birth; else what was before is not recorded.
    pub newborn: bool,
}

impl Life {
    /// The number of the first input that is recorded.
    #[must_use]
    pub fn first_number(&self) -> u64 {
        self.journals.first().map_or(0, |journal| journal.header.inputs_before)
    }

    /// The agent's clock at zero, in microseconds since 1970, as the node saw it.
    #[must_use]
    pub fn epoch(&self) -> i64 {
        // Microseconds since 1970 fit for 292,000 years.
        self.journals.first().map_or(0, |journal| journal.header.epoch_unix_micros.cast_signed())
    }

    /// When the recording begins, in microseconds by the agent's clock.
    #[must_use]
    pub fn begin(&self) -> u64 {
        self.journals.first().map_or(0, |journal| journal.header.time.as_micros())
    }

    /// How it ended, if it says.
    #[must_use]
    pub fn end(&self) -> Option<&End> {
        self.journals.last().and_then(|journal| journal.end.as_ref())
    }

    /// What is wrong with its files.
    pub fn damages(&self) -> impl Iterator<Item = String> {
        let damage = |(journal, file): (&Journal, &String)| {
            journal.damage.as_ref().map(|damage| format!("{file}: {damage}")).into_iter().collect::<Vec<_>>()
        };
        self.journals.iter().zip(&self.files).flat_map(damage)
    }
}

/// Sorts files into lives, by node and time. The second list says, in words, what is odd about them.
#[must_use]
pub fn sort(mut files: Vec<(String, Journal)>) -> (Vec<Life>, Vec<String>) {
    let mut notes = Vec::new();
    files.sort_by(|(one, this), (other, that)| {
        let key = |journal: &Journal, file: &String| {
            let header = &journal.header;
            let name = header.config.name.to_string();
            let birth = (header.epoch_unix_micros, header.seed, header.number, header.time);
            (name, header.config.peer.clone(), birth, std::cmp::Reverse(journal.inputs()), file.clone())
        };
        key(this, one).cmp(&key(that, other))
    });
    let mut lives: Vec<Life> = Vec::new();
    for (file, journal) in files {
        let header = &journal.header;
        if let Some(life) = lives.last_mut().filter(|life| life.peer == header.config.peer)
            && let Some(before) = life.journals.last()
        {
            let same = before.header.epoch_unix_micros == header.epoch_unix_micros && before.header.seed == header.seed;
            if same && before.header.number == header.number {
                notes.push(format!(
                    "{file} is left out: it is the same part of {}'s journal as another file",
                    life.label
                ));
                continue;
            }
            if before.is_followed_by(&journal) {
                life.journals.push(journal);
                life.files.push(file);
                continue;
            }
            if same {
                let (from, to) = (before.header.inputs_before + before.inputs(), header.inputs_before);
                notes.push(format!(
                    "{}: inputs {from} to {} are missing before {file}",
                    life.label,
                    to.saturating_sub(1)
                ));
            }
        }
        let (name, peer) = (header.config.name.to_string(), header.config.peer.clone());
        let newborn = header.state.is_none();
        lives.push(Life { label: name.clone(), name, peer, journals: vec![journal], files: vec![file], newborn });
    }
    // A node's lives were sorted by their seed where the clock started again at the same time.
    lives.sort_by(|this, that| {
        let key = |life: &Life| (life.name.clone(), life.peer.clone(), life.epoch(), life.begin());
        key(this).cmp(&key(that))
    });
    number(&mut lives);
    (lives, notes)
}

/// Labels that tell a node's lives apart, and nodes of the same name.
fn number(lives: &mut [Life]) {
    let mut count = 1;
    for index in 0..lives.len() {
        let life = &lives[index];
        let again = index > 0 && lives[index - 1].peer == life.peer && lives[index - 1].name == life.name;
        let shared = lives.iter().any(|other| other.name == life.name && other.peer != life.peer);
        count = if again { count + 1 } else { 1 };
        let name = if shared { format!("{}({})", life.name, life.peer) } else { life.name.clone() };
        lives[index].label = if count > 1 { format!("{name}#{count}") } else { name };
    }
}
