//! Several rounds of one measurement: what lies in the middle, and how far it goes.

/// The figures of all rounds.
pub(crate) struct Spread(Vec<f64>);

impl Spread {
    /// One figure for each round, in any order.
    pub(crate) fn of(figures: impl IntoIterator<Item = f64>) -> Self {
        let mut figures: Vec<f64> = figures.into_iter().collect();
        assert!(!figures.is_empty(), "a measurement has at least one round");
        figures.sort_by(f64::total_cmp);
        Self(figures)
    }

    /// The median; of an even number, the upper of the two in the middle.
    pub(crate) fn median(&self) -> f64 {
        self.0[self.0.len() / 2]
    }

    /// `median (smallest - largest)`, with this many decimals.
    pub(crate) fn show(&self, decimals: usize) -> String {
        let (smallest, largest) = (self.0[0], self.0[self.0.len() - 1]);
        format!("{:.decimals$} ({smallest:.decimals$} - {largest:.decimals$})", self.median())
    }
}
