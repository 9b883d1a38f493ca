//! The handler of SIGBUS.

#![expect(
    unsafe_code,
    reason = "signal actions are raw function pointers, and what they get are raw pointers"
)]

use std::ffi::{c_int, c_short, c_void};
use std::ptr;
// Not the modelled types: a signal handler is no thread that a model checker knows.
use std::sync::atomic::AtomicPtr;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::{Mutex, PoisonError};

use libc::{SIG_DFL, SIG_IGN, SIGBUS, siginfo_t};
use rustix::io::Errno;

use super::{Notice, registry};

/// The front of a `siginfo_t` of a fault: `libc` has no name for the last field.
#[repr(C)]
struct Fault {
    signal: c_int,
    errno: c_int,
    code: c_int,
    #[cfg(target_pointer_width = "64")]
    padding: c_int,
    address: *mut c_void,
    /// The failed bytes are this power of two, and aligned to it.
    extent: c_short,
}
const _: () = assert!(
    size_of::<Fault>() <= size_of::<siginfo_t>() && align_of::<Fault>() <= align_of::<siginfo_t>()
);

/// What SIGBUS did before; null for the default action.
///
/// # Invariants
/// - INV-BEFORE-1: the pointer is null, or points at an action that lives for ever and never changes.
static BEFORE: AtomicPtr<libc::sigaction> = AtomicPtr::new(ptr::null_mut());

/// Whether the handler is installed. Held while a thread installs it.
static INSTALLED: Mutex<bool> = Mutex::new(false);

type WithInfo = extern "C" fn(c_int, *mut siginfo_t, *mut c_void);
type Plain = extern "C" fn(c_int);

/// Handles failing memory in watched mappings from here on, for the whole process. A second call
/// does nothing.
///
/// A library does not do that unasked: SIGBUS belongs to the program. Every other SIGBUS goes to the
/// action found here, which without a handler of the program's own ends the process as before. A
/// program that installs its own handler later passes on what it does not know.
///
/// A signal that no access waits for, `kill -BUS` or the early notice of a failure, leaves this
/// handler in place, also where the action found here resets SIGBUS to the default, as that of the
/// Rust runtime does. The reset then holds for signals that are passed on: the next one of them ends
/// the process, as it would have without this handler.
///
/// # Errors
/// What the OS said when it refused the handler. A later call tries again.
pub fn catch_memory_failures() -> Result<(), Errno> {
    // Another thread that calls meanwhile waits: when it returns, the handler is installed.
    let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
    if *installed {
        return Ok(());
    }
    // For ever (INV-BEFORE-1): a handler may look at it at any time.
    let before = Box::leak(Box::new(current(SIGBUS)?));
    // Before the handler can run. Release pairs with the Acquire in `call_previous_handler`.
    BEFORE.store(before, Release);
    install(SIGBUS)?;
    *installed = true;
    Ok(())
}

/// Returns what a signal does now. May be called in a signal handler.
fn current(signal: c_int) -> Result<libc::sigaction, Errno> {
    // SAFETY: all-zero bytes are a valid `sigaction` of integers and an absent function.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: a null action only asks; `action` is ours to write.
    check(unsafe { libc::sigaction(signal, ptr::null(), &raw mut action) })?;
    Ok(action)
}

/// Makes [`on_sigbus`] the handler. May be called in a signal handler.
fn install(signal: c_int) -> Result<(), Errno> {
    // SAFETY: all-zero bytes are a valid `sigaction` of integers and an absent function.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = on_sigbus as WithInfo as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
    // SAFETY: `action` is initialised, and its function keeps to what a signal handler may do: it takes no lock, no memory from the heap, and keeps `errno`.
    check(unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) })
}

fn check(answer: c_int) -> Result<(), Errno> {
    if answer == 0 {
        Ok(())
    } else {
        Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL))
    }
}

extern "C" fn on_sigbus(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: the address of this thread's `errno`, which lives as long as the thread.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: the address is valid, see above, and no other thread has it.
    let kept = unsafe { *errno };
    if !is_handled(info) {
        call_previous_handler(signal, info, context);
    }
    // SAFETY: the address is valid, see above, and no other thread has it.
    unsafe { *errno = kept };
}

fn is_handled(info: *const siginfo_t) -> bool {
    // SAFETY: the kernel gives a handler with SA_SIGINFO a whole `siginfo_t`, which is larger than `Fault`; every field is an integer or a raw pointer.
    let fault = unsafe { &*info.cast::<Fault>() };
    let notice = match fault.code {
        libc::BUS_MCEERR_AR => Notice::ActionRequired,
        libc::BUS_MCEERR_AO => Notice::ActionOptional,
        _ => return false,
    };
    let extent = u32::try_from(fault.extent)
        .ok()
        .and_then(|extent| 1_usize.checked_shl(extent))
        .unwrap_or(1);
    registry::handle(fault.address.addr(), extent, notice)
}

/// Does what SIGBUS did before.
fn call_previous_handler(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    // Acquire pairs with the Release in `catch_memory_failures`.
    // SAFETY: INV-BEFORE-1: the pointer is null or points at a record that is never freed or changed.
    let Some(before) = (unsafe { BEFORE.load(Acquire).as_ref() }) else {
        return apply_default_action(signal);
    };
    // SAFETY: the kernel gives a handler with SA_SIGINFO a whole `siginfo_t`, which is alive until the handler returns.
    let code = unsafe { (*info).si_code };
    // No access waits for it: the signal was sent, or is the early notice.
    let is_asynchronous = code <= 0 || code == libc::BUS_MCEERR_AO;
    match before.sa_sigaction {
        // A fault cannot be ignored: its instruction would run into it again.
        SIG_IGN if is_asynchronous => return,
        SIG_DFL | SIG_IGN => return apply_default_action(signal),
        action if before.sa_flags & libc::SA_SIGINFO != 0 => {
            // SAFETY: the OS gave us this address as that of the handler, with the flag that says it takes three arguments.
            let handler = unsafe { std::mem::transmute::<usize, WithInfo>(action) };
            handler(signal, info, context);
        }
        action => {
            // SAFETY: as above, without the flag: it takes one argument.
            let handler = unsafe { std::mem::transmute::<usize, Plain>(action) };
            handler(signal);
        }
    }
    if is_asynchronous {
        undo_reset(signal);
    }
}

/// Puts our handler back if the one before reset the action to the default, and keeps the reset for
/// the signals that are passed on. Such a handler counts on the access to run into its fault again;
/// nothing does that here, so the process would go on without either handler.
fn undo_reset(signal: c_int) {
    if current(signal).is_ok_and(|action| action.sa_sigaction == SIG_DFL) {
        // Relaxed: null points at nothing that would have to be ordered.
        BEFORE.store(ptr::null_mut(), Relaxed);
        // The action was read just now, so the OS takes it; without it the next signal ends the process.
        let _ = install(signal);
    }
}

/// Ends the process as if there had never been a handler. The signal is blocked until this handler returns.
fn apply_default_action(signal: c_int) {
    // SAFETY: all-zero bytes are the default action.
    let default: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: both calls may be made in a signal handler; `default` is initialised.
    unsafe {
        libc::sigaction(signal, &raw const default, std::ptr::null_mut());
        libc::raise(signal);
    }
}
