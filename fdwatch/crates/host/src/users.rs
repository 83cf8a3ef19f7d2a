//! The names of users, read once from /etc/passwd. Other name services are not used, because they can
//! block.

use std::fs;

use rustc_hash::FxHashMap;

/// The names of users, by user id.
#[derive(Debug, Default)]
pub struct Users(FxHashMap<u32, String>);

impl Users {
    /// Reads the users of this host; returns no users if /etc/passwd cannot be read.
    #[must_use]
    pub fn read() -> Self {
        let text = fs::read("/etc/passwd").unwrap_or_default();
        Self::of(&String::from_utf8_lossy(&text))
    }

    fn of(text: &str) -> Self {
        let lines = text.lines().filter_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next().filter(|name| !name.is_empty())?;
            Some((fields.nth(1)?.parse().ok()?, name.to_owned()))
        });
        let mut users = FxHashMap::default();
        for (uid, name) in lines {
            // The first entry wins, as in getpwuid(3).
            users.entry(uid).or_insert(name);
        }
        Self(users)
    }

    /// Returns the user's name, or else the id; empty without an id.
    #[must_use]
    pub fn name(&self, uid: Option<u32>) -> String {
        uid.map_or_else(String::new, |uid| {
            let name = self.0.get(&uid).cloned();
            name.unwrap_or_else(|| uid.to_string())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_name_of_user_id_wins() {
        let users =
            Users::of("root:x:0:0::/root:/bin/sh\ntoor:x:0:0\n\nbroken\n:x:7:\nww:x:33:33:\n");
        assert_eq!(users.name(Some(0)), "root");
        assert_eq!(users.name(Some(33)), "ww");
        assert_eq!(users.name(Some(7)), "7");
        assert_eq!(users.name(None), "");
    }
}
