//! The names of users, from /etc/passwd: read once, and no other service is asked, which might take
//! its time. What users are asked for is not known here.

use std::fs;

use rustc_hash::FxHashMap;

/// See the module.
#[derive(Debug, Default)]
pub struct Users(FxHashMap<u32, String>);

impl Users {
    /// Those that this host has; none, where that cannot be read.
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
            // The first is the one that others take, too.
            users.entry(uid).or_insert(name);
        }
        Self(users)
    }

    /// The user's name, or number; nothing, if it is not known who it is.
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
    fn the_first_name_of_a_number_is_taken() {
        let users =
            Users::of("root:x:0:0::/root:/bin/sh\ntoor:x:0:0\n\nbroken\n:x:7:\nww:x:33:33:\n");
        assert_eq!(users.name(Some(0)), "root");
        assert_eq!(users.name(Some(33)), "ww");
        assert_eq!(users.name(Some(7)), "7");
        assert_eq!(users.name(None), "");
    }
}
