//! How much work a session has done lately, which decides whether it is busy.

use crate::session::Tick;

/// The work that a session has done lately. It halves about every second.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RecentWork {
    /// In pieces of [`RecentWork::PIECE`] units.
    pieces: u16,
    /// When work was last added, in [`RecentWork::HALF_LIFE_MS`].
    at: u16,
}

impl RecentWork {
    const PIECE: usize = 16;
    const HALF_LIFE_MS: Tick = 1024;

    /// Adds units of work. Returns the recent work, in units.
    pub fn add(&mut self, units: usize, now: Tick) -> usize {
        let now = (now / RecentWork::HALF_LIFE_MS) as u16;
        let age = now.wrapping_sub(std::mem::replace(&mut self.at, now));
        let old = self.pieces.checked_shr(age.into()).unwrap_or(0);
        let new = u16::try_from(units / RecentWork::PIECE).unwrap_or(u16::MAX);
        self.pieces = old.saturating_add(new);
        usize::from(self.pieces) * RecentWork::PIECE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_counts_half_after_a_second_and_less_after_more() {
        let mut recent = RecentWork::default();
        let now = 10 * RecentWork::HALF_LIFE_MS;
        assert_eq!(recent.add(1600, now), 1600);
        assert_eq!(recent.add(800, now + RecentWork::HALF_LIFE_MS - 1), 2400);
        assert_eq!(recent.add(0, now + RecentWork::HALF_LIFE_MS), 1200);
        assert_eq!(recent.add(160, now + 4 * RecentWork::HALF_LIFE_MS), 304);
        assert_eq!(recent.add(0, now + 100 * RecentWork::HALF_LIFE_MS), 0);
        let most = usize::from(u16::MAX) * RecentWork::PIECE;
        assert_eq!(recent.add(usize::MAX, now), most);
    }
}
