//! Texts that many sessions have in common: domains, origins.
//!
//! Owns one copy of each for all of a worker's sessions. An idle session then
//! holds no memory of its own that would keep a page from being given back
//! among what a burst of set-ups leaves behind.

use std::collections::HashSet;
use std::rc::Rc;

/// Texts kept before those that nobody has any more are looked for.
const FEW: usize = 64;

/// The texts in use, and some that were.
#[derive(Default)]
pub struct Interner {
    texts: HashSet<Rc<str>>,
    /// Texts that were left when those out of use were dropped.
    left: usize,
}

impl Interner {
    /// The one copy of `text`.
    pub fn share(&mut self, text: &str) -> Rc<str> {
        if let Some(found) = self.texts.get(text) {
            return Rc::clone(found);
        }
        // Peers choose them: at most twice as many as are in use.
        if self.texts.len() >= FEW + 2 * self.left {
            self.texts.retain(|text| Rc::strong_count(text) > 1);
            self.left = self.texts.len();
        }
        let new: Rc<str> = text.into();
        self.texts.insert(Rc::clone(&new));
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_has_one_copy_while_it_is_in_use() {
        let mut names = Interner::default();
        let first = names.share("a");
        let kept: Vec<_> = (0..200).map(|n| names.share(&n.to_string())).collect();
        assert!(Rc::ptr_eq(&first, &names.share("a")));
        assert!(Rc::ptr_eq(&kept[7], &names.share("7")));
        for n in 1000..10_000 {
            names.share(&n.to_string());
        }
        assert!(names.texts.len() <= FEW + 2 * 201, "{}", names.texts.len());
        assert!(Rc::ptr_eq(&first, &names.share("a")));
    }
}
