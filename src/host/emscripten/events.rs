//! What happens after `main` has returned: callbacks of timers, of libraries opened asynchronously, of main loops.
//!
//! JavaScript has an event loop; here it is a queue by time, which the embedder runs after `main` (`start.rs`). The process
//! ends when nothing is left to be done.

#![forbid(unsafe_code)]

use super::EmscriptenHost;
use super::call::{Guest, System};
use crate::error::{Error, ErrorKind, Result};
use crate::trap::{Trap, TrapCode};
use std::collections::BTreeMap;

/// Most events that wait.
const MOST_EVENTS: usize = 65_536;

/// Something to be done later.
#[derive(Clone, Debug)]
pub(super) enum Event {
    /// Open a library and call back.
    Open {
        library: u32,
        success: u32,
        failure: u32,
        user: u32,
    },
    /// Call a function with an argument, once or again and again after so many nanoseconds.
    Call {
        id: i32,
        function: u32,
        argument: u32,
        every: Option<u64>,
    },
    /// Call the main loop's function.
    MainLoop {
        function: u32,
        argument: u32,
        every: u64,
    },
}

/// The queue.
#[derive(Debug, Default)]
pub(super) struct Events {
    /// By time (nanoseconds of the monotonic clock) and order of arrival.
    queue: BTreeMap<(u64, u64), Event>,
    arrived: u64,
    last_id: i32,
    /// The main loop was cancelled while its function ran.
    loop_cancelled: bool,
    /// How often the program said that it has to be kept alive.
    keepalive: u32,
}

impl Events {
    /// Adds something to be done as soon as possible.
    ///
    /// # Errors
    /// Too much waits.
    pub fn add(&mut self, event: Event) -> Result<()> {
        self.add_at(0, event)
    }

    /// Adds something to be done at a time.
    ///
    /// # Errors
    /// Too much waits.
    pub fn add_at(&mut self, time: u64, event: Event) -> Result<()> {
        if self.queue.len() >= MOST_EVENTS {
            return Err(Error::new(ErrorKind::Limit {
                what: "callbacks that wait".into(),
                needed: MOST_EVENTS as u64 + 1,
                allowed: MOST_EVENTS as u64,
            }));
        }
        self.arrived += 1;
        self.queue.insert((time, self.arrived), event);
        Ok(())
    }

    /// The next one and its time.
    pub fn take(&mut self) -> Option<(u64, Event)> {
        let ((time, _), event) = self.queue.pop_first()?;
        Some((time, event))
    }

    pub fn clear(&mut self) {
        self.queue.clear();
        self.keepalive = 0;
    }

    /// Whether the program asked to be kept alive.
    pub fn is_kept_alive(&self) -> bool {
        self.keepalive > 0
    }

    fn new_id(&mut self) -> i32 {
        self.last_id = self.last_id.wrapping_add(1).max(1);
        self.last_id
    }
}

/// `main` is over although it does not return: what is left happens in events. Every frame of the guest ends.
#[derive(Debug)]
struct Unwound;

impl std::fmt::Display for Unwound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the program goes on in callbacks: it has to be run with call_main")
    }
}

impl std::error::Error for Unwound {}

/// Whether the error only means that the program goes on in events.
pub(super) fn is_unwound(error: &Error) -> bool {
    match error.kind() {
        ErrorKind::Host(error) => error.is::<Unwound>(),
        _ => false,
    }
}

pub(super) fn exit_with_live_runtime<T: EmscriptenHost>(
    guest: &mut Guest<'_, '_, T>,
) -> Result<()> {
    let events = &mut guest.state().events;
    events.keepalive = events.keepalive.saturating_add(1);
    Err(Error::host(Unwound))
}

pub(super) fn keepalive_push(system: &mut System<'_, '_>) {
    let events = &mut system.state.events;
    events.keepalive = events.keepalive.saturating_add(1);
}

pub(super) fn keepalive_pop(system: &mut System<'_, '_>) {
    let events = &mut system.state.events;
    events.keepalive = events.keepalive.saturating_sub(1);
}

pub(super) fn keepalive_clear(system: &mut System<'_, '_>) {
    system.state.events.keepalive = 0;
}

pub(super) fn keepalive_check(system: &mut System<'_, '_>) -> i32 {
    i32::from(system.state.events.is_kept_alive())
}

/// `emscripten_async_call`; a negative time means the next frame.
pub(super) fn call_later(
    system: &mut System<'_, '_>,
    function: u32,
    argument: u32,
    milliseconds: i32,
) {
    // Beyond the limit the call is lost, as the function cannot say so.
    let _ = schedule(system, function, argument, f64::from(milliseconds), false);
}

pub(super) fn set_timeout(
    system: &mut System<'_, '_>,
    function: u32,
    milliseconds: f64,
    argument: u32,
) -> i32 {
    schedule(system, function, argument, milliseconds, false).unwrap_or(0)
}

pub(super) fn set_interval(
    system: &mut System<'_, '_>,
    function: u32,
    milliseconds: f64,
    argument: u32,
) -> i32 {
    schedule(system, function, argument, milliseconds, true).unwrap_or(0)
}

pub(super) fn set_immediate(system: &mut System<'_, '_>, function: u32, argument: u32) -> i32 {
    schedule(system, function, argument, 0.0, false).unwrap_or(0)
}

fn schedule(
    system: &mut System<'_, '_>,
    function: u32,
    argument: u32,
    milliseconds: f64,
    again: bool,
) -> Result<i32> {
    let span = nanoseconds(milliseconds);
    let now = system.kernel.clock.monotonic();
    let events = &mut system.state.events;
    let id = events.new_id();
    let event = Event::Call {
        id,
        function,
        argument,
        every: again.then_some(span.max(1_000_000)),
    };
    events.add_at(now.saturating_add(span), event)?;
    Ok(id)
}

fn nanoseconds(milliseconds: f64) -> u64 {
    let seconds = (milliseconds / 1000.0).clamp(0.0, 1e9);
    let span = std::time::Duration::try_from_secs_f64(seconds).unwrap_or_default();
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

pub(super) fn clear(system: &mut System<'_, '_>, id: i32) {
    system
        .state
        .events
        .queue
        .retain(|_, event| !matches!(event, Event::Call { id: own, .. } if *own == id));
}

pub(super) fn set_main_loop<T: EmscriptenHost>(
    guest: &mut Guest<'_, '_, T>,
    function: u32,
    rate: i32,
    forever: i32,
) -> Result<()> {
    set_main_loop_with_argument(guest, function, 0, rate, forever)
}

/// `emscripten_set_main_loop_arg`: the function is called so many times a second until the loop is cancelled. With
/// `forever`, what calls this never goes on.
pub(super) fn set_main_loop_with_argument<T: EmscriptenHost>(
    guest: &mut Guest<'_, '_, T>,
    function: u32,
    argument: u32,
    rate: i32,
    forever: i32,
) -> Result<()> {
    const FRAME_RATE: u64 = 60;
    let rate = u64::try_from(rate).ok().filter(|rate| *rate > 0);
    // Clocks of guests count milliseconds.
    let every = (1_000_000_000 / rate.unwrap_or(FRAME_RATE)).max(1_000_000);
    let events = &mut guest.state().events;
    if events
        .queue
        .values()
        .any(|event| matches!(event, Event::MainLoop { .. }))
    {
        return Err(Trap::new(TrapCode::Unreachable)
            .with_detail("emscripten_set_main_loop: there is a main loop already")
            .into());
    }
    events.add(Event::MainLoop {
        function,
        argument,
        every,
    })?;
    match forever {
        0 => Ok(()),
        _ => Err(Error::host(Unwound)),
    }
}

pub(super) fn cancel_main_loop(system: &mut System<'_, '_>) {
    let events = &mut system.state.events;
    events
        .queue
        .retain(|_, event| !matches!(event, Event::MainLoop { .. }));
    events.loop_cancelled = true;
}

/// Does what is next, waiting for its time; `false` if nothing is left.
///
/// # Errors
/// What ends the process.
pub(super) fn run_next<T: EmscriptenHost>(guest: &mut Guest<'_, '_, T>) -> Result<bool> {
    let (kernel, state) = guest.caller.data_mut().emscripten();
    let Some((time, event)) = state.events.take() else {
        return Ok(false);
    };
    // Events may lead to one another for ever, without a wait and without a guest's function in between.
    if kernel.is_interrupted() {
        return Err(Error::from(TrapCode::Interrupted));
    }
    let now = kernel.clock.monotonic();
    if time > now && kernel.sleep(time - now).is_err() {
        return Err(Error::from(TrapCode::Interrupted));
    }
    let result = match event.clone() {
        Event::Open {
            library,
            success,
            failure,
            user,
        } => super::dynamic::finish(guest, library, (success, failure), user),
        Event::Call {
            function,
            argument,
            every,
            ..
        } => {
            if let Some(every) = every {
                guest
                    .state()
                    .events
                    .add_at(time.saturating_add(every), event)?;
            }
            guest.call_table(function, &[argument])
        }
        Event::MainLoop {
            function,
            argument,
            every,
        } => {
            guest.state().events.loop_cancelled = false;
            let result = guest.call_table(function, &[argument]);
            let (kernel, state) = guest.caller.data_mut().emscripten();
            if !state.events.loop_cancelled {
                let next = kernel.clock.monotonic().saturating_add(every);
                state.events.add_at(next, event)?;
            }
            result
        }
    };
    match result {
        Err(error) if is_unwound(&error) => Ok(true),
        result => result.map(|()| true),
    }
}
