//! Takes system calls away from a thread, as an old kernel, a container's filter or a file system in user
//! space does.

#![allow(unsafe_code, reason = "a test does by hand what the product must withstand")]
#![allow(dead_code, unreachable_pub)]

/// A call that fails.
#[derive(Clone, Copy)]
pub struct Forbidden {
    /// The number of the system call.
    pub call: libc::c_long,
    /// The error it gives.
    pub error: i32,
    /// Only when this argument is not 0.
    pub argument: Option<u32>,
}

/// Lets calls fail in this thread, and in all that it starts from now on.
pub fn forbid(calls: &[Forbidden]) {
    use libc::{BPF_ABS, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W};
    let op = |code: u32, jt: u8, jf: u8, k: u32| libc::sock_filter {
        code: u16::try_from(code).unwrap(),
        jt,
        jf,
        k,
    };
    let load = |offset: u32| op(BPF_LD | BPF_W | BPF_ABS, 0, 0, offset);
    let answer = |k: u32| op(BPF_RET | BPF_K, 0, 0, k);
    let mut program = Vec::new();
    for forbidden in calls {
        let error = libc::SECCOMP_RET_ERRNO | u32::try_from(forbidden.error).unwrap();
        let number = u32::try_from(forbidden.call).unwrap();
        program.push(load(0));
        match forbidden.argument {
            None => program.push(op(BPF_JMP | BPF_JEQ | BPF_K, 0, 1, number)),
            Some(argument) => {
                program.push(op(BPF_JMP | BPF_JEQ | BPF_K, 0, 3, number));
                program.push(load(16 + 8 * argument));
                program.push(op(BPF_JMP | BPF_JEQ | BPF_K, 1, 0, 0));
            }
        }
        program.push(answer(error));
    }
    program.push(answer(libc::SECCOMP_RET_ALLOW));
    let filter =
        libc::sock_fprog { len: u16::try_from(program.len()).unwrap(), filter: program.as_mut_ptr() };
    // SAFETY: both calls read the structures that are given, which live until they return, and change nothing
    // but what this thread may call.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        let set = libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter);
        assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
    }
}
