//! Applies the kernel's bitmaps of a table: which numbers are open, and which close on exec.

use fdwatch_common::{Bitmap, TableBits};

use super::{observer::Observer, state::Model};

impl Model {
    pub(super) fn table_bits(&mut self, bits: &TableBits, observer: &mut impl Observer) {
        let (header, address) = (&bits.header, bits.table);
        self.audit.touch_table(address);
        self.remove_ended(header, address, observer);
        self.table_for(header, address, observer);
        if let (Some(window), Bitmap::CloseOnExec) = (&mut self.window, bits.bitmap()) {
            window.forget_cloexec(address);
        }
        let table = self.table_for(header, address, observer);
        match bits.bitmap() {
            Bitmap::Open => {
                self.mark_unseen(address, header.fd, bits.words());
                self.keep_only(address, header.fd, bits.words(), observer);
                // The table that it is a copy of may have had a larger capacity.
                self.close_from(address, bits.capacity, observer);
            }
            Bitmap::CloseOnExec => {
                let bits: Vec<_> = table
                    .iter()
                    .filter_map(|(fd, _)| {
                        let at = fd.checked_sub(header.fd)?;
                        let word = bits.words().get(at as usize / 64)?;
                        Some((fd, word >> (at % 64) & 1 != 0))
                    })
                    .collect();
                for (fd, closes) in bits {
                    table.set_closes_on_exec(fd, closes);
                }
                self.racing.set_flags(address, header.tid, self.now);
            }
        }
    }

    /// Closes the descriptors from `first` on whose bit in `open` is clear.
    pub(super) fn keep_only(
        &mut self,
        address: u64,
        first: u32,
        open: &[u64],
        observer: &mut impl Observer,
    ) {
        if let Some(window) = &mut self.window {
            window.keep_only(address, first, open);
        }
        let Some(table) = self.tables.get_mut(&address) else {
            return;
        };
        for fd in table.missing_from(first, open) {
            if let Some(entry) = table.remove(fd) {
                observer.closed(table, fd, &entry, self.now);
            }
        }
    }

    /// Closes the descriptors from `end` on.
    fn close_from(&mut self, address: u64, end: u32, observer: &mut impl Observer) {
        if let Some(window) = &mut self.window {
            window.close_from(address, end);
        }
        let Some(table) = self.tables.get_mut(&address) else {
            return;
        };
        let closed = table.iter().map(|(fd, _)| fd).filter(|&fd| fd >= end);
        for fd in closed.collect::<Vec<_>>() {
            if let Some(entry) = table.remove(fd) {
                observer.closed(table, fd, &entry, self.now);
            }
        }
    }

    /// Marks the numbers that are open here and unknown to the model: other threads may have
    /// changed the table that this one is a copy of.
    pub(super) fn mark_unseen(&mut self, address: u64, first: u32, open: &[u64]) {
        if self.window.is_some() {
            return;
        }
        if let Some(table) = self.tables.get(&address) {
            for fd in table.unknown_from(first, open) {
                self.racing.mark_unseen((address, fd), self.now);
            }
        }
    }
}
