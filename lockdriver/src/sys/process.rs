//! What a process does to itself to become one that nothing stops by accident.

use std::io;

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
