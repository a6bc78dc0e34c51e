//! What a process does to itself to become one that nothing stops by accident.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::unistd::{ForkResult, fork, setsid};

/// Makes this process deaf to the polite signals (SIGTERM, SIGINT, SIGHUP, SIGQUIT, terminal stops).
///
/// # Errors
/// What the kernel said.
pub fn ignore_polite_signals() -> io::Result<()> {
    let deaf = [
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGHUP,
        Signal::SIGQUIT,
        Signal::SIGTSTP,
        Signal::SIGTTIN,
        Signal::SIGTTOU,
    ];
    for signal in deaf {
        // SAFETY: "ignore" runs no code of ours.
        unsafe { nix::sys::signal::signal(signal, nix::sys::signal::SigHandler::SigIgn)? };
    }
    let mut set = SigSet::empty();
    deaf.iter().for_each(|signal| set.add(*signal));
    sigprocmask(SigmaskHow::SIG_UNBLOCK, Some(&set), None)?;
    Ok(())
}

/// Double fork and a session of its own: returns only in the grandchild, which init adopts. The two processes above end at once
/// with status 0.
///
/// To be called early in a process made for this: only the calling thread goes on.
///
/// # Errors
/// When processes are out.
pub fn detach() -> io::Result<()> {
    for round in 0..2 {
        // SAFETY: the child goes on in the calling thread only; other threads, where a test harness has some, hold none of
        // the locks that it will need, and the C library repairs its own allocator over a fork.
        match unsafe { fork()? } {
            // SAFETY: ends the process without running anything that belongs to the child.
            ForkResult::Parent { .. } => unsafe { libc::_exit(0) },
            ForkResult::Child if round == 0 => {
                setsid()?;
            }
            ForkResult::Child => {}
        }
    }
    Ok(())
}

/// Asks for the lowest real-time priority for this thread and those that it starts.
///
/// # Errors
/// When the process may not.
pub fn become_real_time() -> io::Result<()> {
    let parameter = libc::sched_param { sched_priority: 1 };
    // SAFETY: the pointer names one complete structure that the kernel only reads; 0 is the calling thread.
    let result = unsafe { libc::sched_setscheduler(0, libc::SCHED_RR, &raw const parameter) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Most locked memory of a child in bytes: what systems allow everybody.
const CHILD_LOCKED_BYTES: u64 = 8 << 20;

/// Sets a child that is to be started apart from this process: a session of its own, so without this process's terminal
/// and in a process group that bears its number; no descriptor beyond the three streams; no real-time priority and no
/// unlimited locked memory.
pub fn set_apart(command: &mut Command) {
    // SAFETY: between fork and exec only system calls are made; nothing is allocated and no lock is taken.
    unsafe {
        command.pre_exec(|| {
            setsid()?;
            // A limit that is lower already stays: raising is refused, and that is as well.
            let _ = setrlimit(Resource::RLIMIT_RTPRIO, 0, 0);
            let _ = setrlimit(Resource::RLIMIT_MEMLOCK, CHILD_LOCKED_BYTES, CHILD_LOCKED_BYTES);
            close_beyond_streams()
        });
    }
}

/// Marks every descriptor but the three streams to be closed at exec, also those that this process was started with.
fn close_beyond_streams() -> io::Result<()> {
    // SAFETY: three numbers; close-on-exec changes nothing for this process before its exec.
    let answer = unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    match answer {
        0 => Ok(()),
        // Linux before 5.11: then there are only those that were opened to be closed.
        _ => match io::Error::last_os_error() {
            error if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EINVAL)) => Ok(()),
            error => Err(error),
        },
    }
}

/// Whether the program runs with more rights than whoever started it has: set-uid, set-gid, or capabilities of its file.
#[must_use]
pub fn has_more_rights_than_its_caller() -> bool {
    // SAFETY: takes a number, reads a value that the kernel handed over at the start of the program.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}
