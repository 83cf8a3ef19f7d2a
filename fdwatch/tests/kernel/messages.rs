//! Descriptors in messages over sockets.

use std::{io, mem, ptr};

/// Limit of descriptors in one message: `SCM_MAX_FD`, include/net/scm.h.
pub(crate) const MAX: usize = 253;

/// An aligned control message with room for all of them.
type Control = [u64; 2 + MAX / 2 + 1];

/// Sends descriptors.
pub(crate) fn send(socket: i32, fds: &[i32]) -> io::Result<()> {
    let mut control: Control = [0; _];
    let mut byte = *b"x";
    let len = size_of_val(fds) as u32;
    let mut part = part_of(&mut byte);
    let mut message = message_of(&mut part, &mut control);
    // SAFETY: the control message has room for the descriptors, and all pointees live until the call returns.
    let sent = unsafe {
        message.msg_controllen = libc::CMSG_SPACE(len) as _;
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(len) as _;
        let data = libc::CMSG_DATA(header).cast::<i32>();
        ptr::copy_nonoverlapping(fds.as_ptr(), data, fds.len());
        libc::sendmsg(socket, &raw const message, libc::MSG_DONTWAIT)
    };
    result(sent)
}

/// Receives descriptors and returns their number.
pub(crate) fn receive(socket: i32, flags: i32) -> io::Result<usize> {
    receive_into(socket, flags, size_of::<Control>())
}

/// Receives as many as fit into a control message of `room` bytes, and returns their number.
pub(crate) fn receive_into(socket: i32, flags: i32, room: usize) -> io::Result<usize> {
    let mut control: Control = [0; _];
    let mut byte = *b"-";
    let mut part = part_of(&mut byte);
    let mut message = message_of(&mut part, &mut control);
    message.msg_controllen = room.min(size_of::<Control>()) as _;
    // SAFETY: all pointees live until the call returns.
    unsafe {
        let flags = flags | libc::MSG_DONTWAIT;
        result(libc::recvmsg(socket, &raw mut message, flags))?;
        Ok(count(&message))
    }
}

/// Receives several messages at once and returns the number of descriptors.
pub(crate) fn receive_several(socket: i32, flags: i32) -> io::Result<usize> {
    const MESSAGES: usize = 4;
    let mut controls: [Control; MESSAGES] = [[0; _]; _];
    let mut bytes = [*b"-"; MESSAGES];
    let mut parts = bytes.each_mut().map(part_of);
    // SAFETY: zeroes are empty messages.
    let mut messages: [libc::mmsghdr; MESSAGES] = unsafe { mem::zeroed() };
    for ((message, part), control) in messages.iter_mut().zip(&mut parts).zip(&mut controls) {
        message.msg_hdr = message_of(part, control);
    }
    // SAFETY: all pointees live until the call returns.
    unsafe {
        let received = libc::recvmmsg(
            socket,
            messages.as_mut_ptr(),
            MESSAGES as u32,
            (flags | libc::MSG_DONTWAIT) as _,
            ptr::null_mut(),
        );
        result(received as isize)?;
        let received = &messages[..received as usize];
        Ok(received.iter().map(|message| count(&message.msg_hdr)).sum())
    }
}

/// Counts the descriptors in a received message.
///
/// # Safety
///
/// The kernel must have filled it in.
unsafe fn count(message: &libc::msghdr) -> usize {
    // SAFETY: guaranteed by the caller.
    unsafe {
        let header = libc::CMSG_FIRSTHDR(ptr::from_ref(message));
        if header.is_null() {
            return 0;
        }
        let len = (*header).cmsg_len as usize - libc::CMSG_LEN(0) as usize;
        len / size_of::<i32>()
    }
}

fn result(result: isize) -> io::Result<()> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn part_of(byte: &mut [u8; 1]) -> libc::iovec {
    libc::iovec {
        iov_base: byte.as_mut_ptr().cast(),
        iov_len: 1,
    }
}

fn message_of(part: &mut libc::iovec, control: &mut Control) -> libc::msghdr {
    // SAFETY: zeroes are an empty message.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of::<Control>() as _;
    message
}
