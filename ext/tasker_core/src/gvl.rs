//! Waits without the GVL, so that other Ruby threads run meanwhile and the wait can be interrupted; and detects forks.
//!
//! Invariant: a wait releases the GVL with an unblock function. `Thread#kill`, `Timeout` and Ctrl-C act at once, and
//! the output of a wait is never lost by a jump out of it. The only file with `unsafe`.

use std::ffi::c_void;
use std::future::Future;
use std::io;
use std::panic::{catch_unwind, resume_unwind, AssertUnwindSafe};
use std::pin::pin;
use std::ptr;

use magnus::rb_sys::protect;
use magnus::Error;
use rb_sys::{rb_thread_call_without_gvl2, rb_thread_check_ints, Qnil};
use tokio::runtime::Runtime;
use tokio::sync::Notify;

/// Runs a future to completion on the calling Ruby thread, without the GVL.
///
/// # Errors
/// An exception raised in this thread meanwhile; the future is then dropped.
pub fn wait<F: Future>(runtime: &Runtime, future: F) -> Result<F::Output, Error> {
    // An interrupted future is dropped here; returning its connection to the pool needs the runtime.
    let _context = runtime.enter();
    let mut future = pin!(future);
    loop {
        let interrupt = Notify::new();
        let output = without_gvl(&interrupt, || {
            runtime.block_on(async {
                tokio::select! {
                    biased;
                    output = &mut future => Some(output),
                    () = interrupt.notified() => None,
                }
            })
        });
        if let Some(output) = output.flatten() {
            return Ok(output);
        }
        check_interrupts()?;
    }
}

/// Registers `handler` to be called in every forked child before anything else. It must not allocate or take a lock,
/// which another thread may have held at the fork.
///
/// # Errors
/// If the C library is out of memory.
pub fn after_fork(handler: extern "C" fn()) -> io::Result<()> {
    // SAFETY: the handler is code of this library, which Ruby never unloads.
    match unsafe { libc::pthread_atfork(None, None, Some(handler)) } {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(code)),
    }
}

/// Calls `work` without the GVL; `None` if an interrupt was pending before it began.
fn without_gvl<R>(interrupt: &Notify, work: impl FnOnce() -> R) -> Option<R> {
    struct Call<W, R> {
        work: Option<W>,
        output: Option<std::thread::Result<R>>,
    }

    unsafe extern "C" fn run<W: FnOnce() -> R, R>(call: *mut c_void) -> *mut c_void {
        // SAFETY: `call` points to the `Call` below, which outlives this call and has no other user during it.
        let call = unsafe { &mut *call.cast::<Call<W, R>>() };
        if let Some(work) = call.work.take() {
            // A panic must not cross the C frames in between.
            call.output = Some(catch_unwind(AssertUnwindSafe(work)));
        }
        ptr::null_mut()
    }

    unsafe extern "C" fn unblock(interrupt: *mut c_void) {
        // SAFETY: Ruby calls this only between begin and end of `run`, during which `interrupt` is borrowed below.
        unsafe { &*interrupt.cast::<Notify>() }.notify_one();
    }

    fn start<W: FnOnce() -> R, R>(call: &mut Call<W, R>, interrupt: &Notify) {
        // SAFETY: both pointers outlive the call. The variant `2` does not raise on its return, so no Rust frame
        // is jumped over while it holds an output.
        unsafe {
            rb_thread_call_without_gvl2(
                Some(run::<W, R>),
                ptr::from_mut(call).cast(),
                Some(unblock),
                ptr::from_ref(interrupt).cast_mut().cast(),
            );
        }
    }

    let mut call = Call { work: Some(work), output: None };
    start(&mut call, interrupt);
    call.output.map(|output| output.unwrap_or_else(|panic| resume_unwind(panic)))
}

/// Lets Ruby raise a pending exception of this thread.
fn check_interrupts() -> Result<(), Error> {
    protect(|| {
        // SAFETY: called with the GVL, on a Ruby thread; `protect` turns a jump into an error.
        unsafe { rb_thread_check_ints() };
        Qnil.into()
    })
    .map(|_| ())
}
