//! Shares texts that many sessions have in common: domains, origins.
//!
//! Keeps one copy of each text for all sessions of a worker. If idle sessions had their own
//! copies, these would be spread over the memory of a burst of set-ups, and keep its pages from
//! being returned to the system.

use std::collections::HashSet;
use std::rc::Rc;

/// Number of texts below which unused ones are not dropped.
const FEW: usize = 64;

/// The texts that are in use, and some that are not.
#[derive(Default)]
pub struct Interner {
    texts: HashSet<Rc<str>>,
    /// Number of texts left when unused ones were last dropped.
    left: usize,
}

impl Interner {
    /// Returns the shared copy of `text`.
    pub fn share(&mut self, text: &str) -> Rc<str> {
        if let Some(found) = self.texts.get(text) {
            return Rc::clone(found);
        }
        // Peers choose the texts, so keep at most about twice as many as are in use.
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
