//! What to do about a finding: one sentence, for whoever can change the program or its set-up.

use super::{Cause, FileInfo};
use crate::model::Slot;

pub(super) fn advice(cause: Cause, slots: &[&Slot], file: &FileInfo) -> &'static str {
    let writers = slots.iter().filter(|slot| slot.access().writes());
    let overwriting = writers.clone().count() > 1 && writers.clone().any(|slot| !slot.appends());
    match cause {
        Cause::Rotated => {
            "make the program close the old file after rotation (reopen signal), or rotate with copytruncate"
        }
        Cause::Duplicated if file.deleted => {
            "close the copies: the deleted file takes space until the last one is closed"
        }
        Cause::Duplicated => {
            "one description: harmless unless the copies are forgotten; close those not needed"
        }
        Cause::Inherited if overwriting => {
            "open with O_CLOEXEC or close before forking: parent and child overwrite each other without O_APPEND"
        }
        Cause::Inherited => "open with O_CLOEXEC, or close in the child what it opens again itself",
        Cause::Reopened if overwriting => {
            "open it once and share the descriptor, or open it with O_APPEND: these writers overwrite each other"
        }
        Cause::Reopened if file.deleted => {
            "close the leftover descriptors: the deleted file takes space until the last one is closed"
        }
        Cause::Reopened => {
            "open it once and share the descriptor, or close the first before opening again"
        }
    }
}
