//! Device names to ask EC2 for.
//!
//! On Nitro instances the name is a label that the kernel never sees; on older ones it is the name the device
//! gets. Names in use are taken from the instance's block device mapping, not from the kernel, which does not
//! know those labels.

use parking_lot::Mutex;
use std::collections::BTreeSet;

/// The names, in the order they are tried: those that every kind of instance takes first.
fn pool() -> impl Iterator<Item = String> {
    let (second, late) = (b'b'..=b'c', [(b'd', b'x'), (b'a', b'z')]);
    let safe = second.map(|letter| (letter, b'z'));
    safe.chain(late).flat_map(|(first, last)| {
        (b'a'..=last).map(move |letter| format!("/dev/xvd{}{}", char::from(first), char::from(letter)))
    })
}

/// Names that attachments in flight have taken, and names that EC2 has refused.
#[derive(Debug, Default)]
pub struct Names {
    taken: Mutex<BTreeSet<String>>,
    refused: Mutex<BTreeSet<String>>,
}

/// A name that nobody else takes until this is dropped.
#[derive(Debug)]
pub struct Reservation<'a> {
    names: &'a Names,
    name: String,
}

impl Names {
    /// Reserves a name that is in no use; `None` when all are.
    pub fn reserve(&self, in_use: &BTreeSet<String>) -> Option<Reservation<'_>> {
        let same = |a: &str, b: &str| a.trim_start_matches("/dev/") == b.trim_start_matches("/dev/");
        let mut taken = self.taken.lock();
        let refused = self.refused.lock();
        let free = |name: &String| !taken.contains(name) && !in_use.iter().any(|used| same(used, name));
        // What was refused once may be free by now: it is tried last.
        let name = pool().filter(|name| !refused.contains(name)).find(free).or_else(|| pool().find(free))?;
        taken.insert(name.clone());
        Some(Reservation { names: self, name })
    }
}

impl Reservation<'_> {
    /// The name, as EC2 is asked for it.
    pub fn as_str(&self) -> &str {
        &self.name
    }

    /// EC2 says that it is in use, whatever the mapping says.
    pub fn refuse(self) {
        self.names.refused.lock().insert(self.name.clone());
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        self.names.taken.lock().remove(&self.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_legal_different_and_enough() {
        let all: Vec<_> = pool().collect();
        assert_eq!(all[0], "/dev/xvdba");
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
        assert_eq!(all.len(), 26 + 26 + 24 + 26);
        assert!(all.contains(&"/dev/xvddx".to_owned()) && !all.contains(&"/dev/xvddy".to_owned()));
    }

    #[test]
    fn what_is_used_in_flight_or_refused_is_not_taken() {
        let names = Names::default();
        let used = BTreeSet::from(["/dev/sda1".to_owned(), "xvdba".to_owned(), "/dev/xvdbb".to_owned()]);
        let first = names.reserve(&used).unwrap();
        assert_eq!(first.as_str(), "/dev/xvdbc");
        let second = names.reserve(&used).unwrap();
        assert_eq!(second.as_str(), "/dev/xvdbd");
        second.refuse();
        drop(first);
        let third = names.reserve(&used).unwrap();
        assert_eq!(third.as_str(), "/dev/xvdbc");
        assert_eq!(names.reserve(&used).unwrap().as_str(), "/dev/xvdbe");
        let mut all: BTreeSet<_> = pool().collect();
        all.remove("/dev/xvdbd");
        drop(third);
        assert_eq!(names.reserve(&all).unwrap().as_str(), "/dev/xvdbd", "refused before, but the last");
        all.insert("/dev/xvdbd".to_owned());
        assert!(names.reserve(&all).is_none());
    }
}
