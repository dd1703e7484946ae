//! Finding one of few things that lie side by side, by a mark of four bytes each: the things themselves, which are larger, are
//! looked at only where the marks are alike.

/// The place of the thing with this mark that is the one looked for.
pub(crate) fn find<'a>(
    marks: impl IntoIterator<Item = &'a u32>,
    mark: u32,
    mut is_it: impl FnMut(usize) -> bool,
) -> Option<usize> {
    let alike = marks.into_iter().enumerate().filter(|(_, other)| **other == mark);
    alike.map(|(place, _)| place).find(|place| is_it(*place))
}

#[cfg(test)]
mod tests {
    use super::find;

    #[test]
    fn what_is_only_marked_alike_is_passed_over() {
        let (marks, things) = ([7, 3, 7, 7], ["a", "b", "c", "d"]);
        assert_eq!(find(&marks, 7, |place| things[place] == "c"), Some(2));
        assert_eq!(find(&marks, 7, |place| things[place] == "b"), None, "it has another mark");
        assert_eq!(find(&marks, 1, |_| true), None);
    }
}
