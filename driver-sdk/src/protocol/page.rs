//! Pages of what is listed by name.

use super::{Kept, ListKept, ListVolumes, Name, Volume};

/// Something that is listed by its name.
pub trait Named {
    /// The name it is sorted by.
    fn name(&self) -> &Name;
}

impl Named for Name {
    fn name(&self) -> &Name {
        self
    }
}

impl<T> Named for (Name, T) {
    fn name(&self) -> &Name {
        &self.0
    }
}

impl Named for Volume {
    fn name(&self) -> &Name {
        &self.name
    }
}

impl Named for Kept {
    fn name(&self) -> &Name {
        &self.name
    }
}

impl ListVolumes {
    /// Sorts `all` by name, gives the page of it that is asked for, and says whether more follow.
    pub fn page<T: Named>(&self, all: impl IntoIterator<Item = T>) -> (Vec<T>, bool) {
        page(self.after.as_ref(), self.limit, all)
    }
}

impl ListKept {
    /// Sorts `all` by name, gives the page of it that is asked for, and says whether more follow.
    pub fn page<T: Named>(&self, all: impl IntoIterator<Item = T>) -> (Vec<T>, bool) {
        page(self.after.as_ref(), self.limit, all)
    }
}

fn page<T: Named>(
    after: Option<&Name>,
    limit: Option<u32>,
    all: impl IntoIterator<Item = T>,
) -> (Vec<T>, bool) {
    let follows = |item: &T| after.is_none_or(|after| item.name() > after);
    let mut items: Vec<T> = all.into_iter().filter(follows).collect();
    items.sort_unstable_by(|one, other| one.name().cmp(other.name()));
    let limit = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
    let more = items.len() > limit;
    items.truncate(limit);
    (items, more)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_sorted_and_say_whether_more_follow() {
        let names = || ["cc", "aa", "dd", "bb"].map(Name::from_static);
        let page = |after: Option<&'static str>, limit| {
            let request = ListVolumes::new().after(after.map(Name::from_static)).limit(limit);
            let (names, more) = request.page(names());
            (names.iter().map(|name| name.as_str().to_owned()).collect::<Vec<_>>().join(" "), more)
        };
        assert_eq!(page(None, None), ("aa bb cc dd".to_owned(), false));
        assert_eq!(page(None, Some(2)), ("aa bb".to_owned(), true));
        assert_eq!(page(Some("bb"), Some(2)), ("cc dd".to_owned(), false));
        assert_eq!(page(Some("b0"), Some(0)), (String::new(), true));
        assert_eq!(page(Some("zz"), Some(5)), (String::new(), false));
    }
}
