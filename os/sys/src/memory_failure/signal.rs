//! The SIGBUS handler.

#![expect(
    unsafe_code,
    reason = "signal actions are raw function pointers, and their arguments are raw pointers"
)]

use std::ffi::{c_int, c_short, c_void};
use std::ptr;
// Not the types of the `sync` crate: a signal handler is not a thread that a model checker knows.
use std::sync::atomic::AtomicPtr;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::{Mutex, PoisonError};

use libc::{SIG_DFL, SIG_IGN, SIGBUS, siginfo_t};
use rustix::io::Errno;

use super::{Notice, registry};

/// The first fields of a `siginfo_t` of a fault: `libc` has no name for the last one.
#[repr(C)]
pub(super) struct Fault {
    pub(super) signal: c_int,
    pub(super) errno: c_int,
    pub(super) code: c_int,
    #[cfg(target_pointer_width = "64")]
    pub(super) padding: c_int,
    pub(super) address: *mut c_void,
    /// `si_addr_lsb`: the logarithm of the number of failed bytes, which are aligned to their size.
    pub(super) extent: c_short,
}
const _: () = assert!(
    size_of::<Fault>() <= size_of::<siginfo_t>() && align_of::<Fault>() <= align_of::<siginfo_t>()
);

/// The previous action of SIGBUS; null for the default action.
///
/// # Invariants
/// - INV-BEFORE-1: the pointer is null, or points at an action that is never freed or changed.
static BEFORE: AtomicPtr<libc::sigaction> = AtomicPtr::new(ptr::null_mut());

/// Whether the handler is installed. Locked while a thread installs it.
static INSTALLED: Mutex<bool> = Mutex::new(false);

type WithInfo = extern "C" fn(c_int, *mut siginfo_t, *mut c_void);
type Plain = extern "C" fn(c_int);

/// Installs the SIGBUS handler for watched mappings. A second call does nothing.
///
/// A program calls this itself, since SIGBUS belongs to the program and not to a library. A program
/// that installs a handler later must forward the signals it does not handle.
///
/// An asynchronous signal, `kill -BUS` or an early notice (`BUS_MCEERR_AO`), leaves this handler in
/// place even where the previous action resets SIGBUS to the default, as the Rust runtime's does.
/// The reset then applies to forwarded signals: the next one ends the process.
///
/// # Errors
/// The error of the OS when it refused the handler. A later call tries again.
pub fn catch_memory_failures() -> Result<(), Errno> {
    // A concurrent call waits here, so the handler is installed when it returns.
    let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
    if *installed {
        return Ok(());
    }
    // Leaked (INV-BEFORE-1): a handler may read it at any time.
    let before = Box::leak(Box::new(current(SIGBUS)?));
    // Stored before the handler can run. Release pairs with the Acquire in `call_previous_handler`.
    BEFORE.store(before, Release);
    install(SIGBUS)?;
    *installed = true;
    Ok(())
}

/// Returns the action of a signal. Async-signal-safe.
fn current(signal: c_int) -> Result<libc::sigaction, Errno> {
    // SAFETY: all-zero bytes are a valid `sigaction` of integers and an absent function.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: a null action changes nothing, and `action` is a local the call may write.
    check(unsafe { libc::sigaction(signal, ptr::null(), &raw mut action) })?;
    Ok(action)
}

/// Makes [`on_sigbus`] the handler. Async-signal-safe.
fn install(signal: c_int) -> Result<(), Errno> {
    // SAFETY: all-zero bytes are a valid `sigaction` of integers and an absent function.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = on_sigbus as WithInfo as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
    // SAFETY: `action` is initialised, and its function is async-signal-safe: it takes no lock,
    // allocates nothing and keeps `errno`.
    check(unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) })
}

pub(super) fn check(result: impl Into<i64>) -> Result<(), Errno> {
    if result.into() == 0 {
        return Ok(());
    }
    Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL))
}

extern "C" fn on_sigbus(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: the address of this thread's `errno`, which lives as long as the thread.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: the address is valid, as above, and no other thread uses it.
    let saved = unsafe { *errno };
    if !is_handled(info) {
        call_previous_handler(signal, info, context);
    }
    // SAFETY: the address is valid and belongs to this thread, as above.
    unsafe { *errno = saved };
}

fn is_handled(info: *const siginfo_t) -> bool {
    // SAFETY: the kernel passes a handler with SA_SIGINFO a whole `siginfo_t`, which is larger than
    // `Fault`; every field of `Fault` is an integer or a raw pointer.
    let fault = unsafe { &*info.cast::<Fault>() };
    let notice = match fault.code {
        libc::BUS_MCEERR_AR => Notice::ActionRequired,
        libc::BUS_MCEERR_AO => Notice::ActionOptional,
        _ => return false,
    };
    let extent = u32::try_from(fault.extent).ok().and_then(|bits| 1_usize.checked_shl(bits));
    registry::handle(fault.address.addr(), extent.unwrap_or(1), notice)
}

fn call_previous_handler(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    // Acquire pairs with the Release in `catch_memory_failures`.
    // SAFETY: INV-BEFORE-1: the pointer is null, or points at an action that is never freed or
    // changed.
    let Some(before) = (unsafe { BEFORE.load(Acquire).as_ref() }) else {
        return apply_default_action(signal);
    };
    // SAFETY: the kernel passes a handler with SA_SIGINFO a whole `siginfo_t`, which lives until
    // the handler returns.
    let code = unsafe { (*info).si_code };
    // No access waits for the signal: a process sent it, or it is the early notice.
    let is_asynchronous = code <= 0 || code == libc::BUS_MCEERR_AO;
    match before.sa_sigaction {
        // A fault cannot be ignored: its instruction would fault again.
        SIG_IGN if is_asynchronous => return,
        SIG_DFL | SIG_IGN => return apply_default_action(signal),
        action if before.sa_flags & libc::SA_SIGINFO != 0 => {
            // SAFETY: the OS returned this address as that of the handler, with the flag that says
            // it takes three arguments.
            let handler = unsafe { std::mem::transmute::<usize, WithInfo>(action) };
            handler(signal, info, context);
        }
        action => {
            // SAFETY: as above, but without the flag: the handler takes one argument.
            let handler = unsafe { std::mem::transmute::<usize, Plain>(action) };
            handler(signal);
        }
    }
    if is_asynchronous {
        undo_reset(signal);
    }
}

/// Reinstalls this handler if the previous one reset the action to the default, and applies the
/// reset to signals forwarded later. A handler that resets it relies on the access to fault again,
/// which no access does here.
fn undo_reset(signal: c_int) {
    if current(signal).is_ok_and(|action| action.sa_sigaction == SIG_DFL) {
        // Relaxed: a null pointer publishes no data.
        BEFORE.store(ptr::null_mut(), Relaxed);
        // The OS accepted the call that read the action, so it accepts this one.
        let _ = install(signal);
    }
}

/// Ends the process as the default action does. The signal is blocked until this handler returns.
fn apply_default_action(signal: c_int) {
    // SAFETY: all-zero bytes are the default action.
    let default: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: both calls are async-signal-safe, and `default` is initialised.
    unsafe {
        libc::sigaction(signal, &raw const default, ptr::null_mut());
        libc::raise(signal);
    }
}
