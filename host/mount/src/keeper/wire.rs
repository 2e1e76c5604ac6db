//! Messages between the two processes: over a pair of sockets, with descriptors.

#![allow(unsafe_code, reason = "nix gives descriptors that came with a message as numbers")]

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg, sendmsg,
    socketpair,
};

/// The longest message: the reason of a refusal.
const MOST: usize = 4096;

/// What an answer begins with: a descriptor comes with it.
const GIVEN: u8 = b'+';
/// The reason of a refusal follows.
const REFUSED: u8 = b'-';

/// What the keeper answers.
#[derive(Debug)]
pub(super) enum Answer {
    Descriptor(OwnedFd),
    Refused(String),
}

/// Two sockets that are connected. Each sees when the other is closed. Programs that are started inherit none.
///
/// # Errors
/// Those of the kernel.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?)
}

pub(super) fn send_request(socket: &OwnedFd, request: &[u8]) -> io::Result<()> {
    send(socket, request, None)
}

/// The next request; `None` if nobody can ask any more.
pub(super) fn receive_request(socket: &OwnedFd) -> io::Result<Option<Vec<u8>>> {
    Ok(receive(socket)?.map(|(request, _)| request))
}

pub(super) fn send_answer(socket: &OwnedFd, answer: &Result<OwnedFd, String>) -> io::Result<()> {
    match answer {
        Ok(descriptor) => send(socket, &[GIVEN], Some(descriptor.as_raw_fd())),
        Err(why) => {
            let mut text = vec![REFUSED];
            text.extend(why.bytes().take(MOST - 1));
            send(socket, &text, None)
        }
    }
}

pub(super) fn receive_answer(socket: &OwnedFd) -> io::Result<Answer> {
    let (message, descriptor) = receive(socket)?.ok_or(io::ErrorKind::UnexpectedEof)?;
    match (message.split_first(), descriptor) {
        (Some((&GIVEN, _)), Some(descriptor)) => Ok(Answer::Descriptor(descriptor)),
        (Some((&REFUSED, why)), None) => Ok(Answer::Refused(String::from_utf8_lossy(why).into_owned())),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

fn send(socket: &OwnedFd, bytes: &[u8], descriptor: Option<RawFd>) -> io::Result<()> {
    let with = descriptor.as_slice();
    let rights = [ControlMessage::ScmRights(with)];
    let control = if with.is_empty() { &[][..] } else { &rights[..] };
    let parts = [IoSlice::new(bytes)];
    loop {
        match sendmsg::<()>(socket.as_raw_fd(), &parts, control, MsgFlags::MSG_NOSIGNAL, None) {
            Err(Errno::EINTR) => {}
            other => return Ok(other.map(drop)?),
        }
    }
}

/// A message with its descriptor; `None` if there is nobody at the other end.
fn receive(socket: &OwnedFd) -> io::Result<Option<(Vec<u8>, Option<OwnedFd>)>> {
    let mut bytes = vec![0; MOST];
    let mut control = nix::cmsg_space!([RawFd; 1]);
    let (length, descriptor) = loop {
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let received =
            recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::MSG_CMSG_CLOEXEC);
        let received = match received {
            Err(Errno::EINTR) => continue,
            other => other?,
        };
        let mut descriptor = None;
        for message in received.cmsgs()? {
            if let ControlMessageOwned::ScmRights(numbers) = message {
                for number in numbers {
                    // SAFETY: the kernel has made this descriptor for us just now, and nobody else knows it.
                    descriptor = Some(unsafe { OwnedFd::from_raw_fd(number) });
                }
            }
        }
        break (received.bytes, descriptor);
    };
    bytes.truncate(length);
    Ok((length > 0).then_some((bytes, descriptor)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::{Read, Write};

    #[test]
    fn descriptors_and_reasons_come_over() {
        let (one, other) = pair().unwrap();
        send_request(&one, b"files").unwrap();
        assert_eq!(receive_request(&other).unwrap().unwrap(), b"files");
        let (mut reader, writer) = std::io::pipe().unwrap();
        send_answer(&other, &Ok(writer.into())).unwrap();
        let Answer::Descriptor(writer) = receive_answer(&one).unwrap() else { panic!("it was given") };
        File::from(writer).write_all(b"through").unwrap();
        let mut read = String::new();
        // Its end comes: no copy is left.
        reader.read_to_string(&mut read).unwrap();
        assert_eq!(read, "through");
        send_answer(&other, &Err("x".repeat(9999))).unwrap();
        let Answer::Refused(why) = receive_answer(&one).unwrap() else { panic!("it was refused") };
        assert_eq!(why.len(), MOST - 1);
        drop(other);
        assert!(receive_answer(&one).is_err());
        assert!(receive_request(&one).unwrap().is_none());
    }
}
