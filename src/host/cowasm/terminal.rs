//! The settings of the terminal that the guest's standard streams lead to. Line editors (libedit in
//! Python's `readline`) turn echo and line buffering off with them while a line is edited.
//!
//! A guest can change the modes named here and nothing else, and the terminal gets its settings back when
//! the guest ends, however it ends.

#![forbid(unsafe_code)]

use crate::host::errno::Errno;
#[cfg(unix)]
use rustix::termios::LocalModes;

/// The modes of a terminal as the guest's `struct termios` begins: input, output, control, local.
pub(super) type Modes = [u32; 4];

/// The terminal's settings before the guest changed them.
#[derive(Debug, Default)]
pub(super) struct Terminal {
    #[cfg(unix)]
    before: Option<(StandardStream, rustix::termios::Termios)>,
}

/// A standard stream of the host.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum StandardStream {
    Input,
    Output,
    Error,
}

#[cfg(unix)]
mod modes {
    use rustix::termios::{ControlModes, InputModes, LocalModes, OutputModes};

    // The guest's numbers are those of musl for most processors.
    pub const INPUT: &[(u32, InputModes)] = &[
        (0x1, InputModes::IGNBRK),
        (0x2, InputModes::BRKINT),
        (0x4, InputModes::IGNPAR),
        (0x8, InputModes::PARMRK),
        (0x10, InputModes::INPCK),
        (0x20, InputModes::ISTRIP),
        (0x40, InputModes::INLCR),
        (0x80, InputModes::IGNCR),
        (0x100, InputModes::ICRNL),
        (0x400, InputModes::IXON),
        (0x800, InputModes::IXANY),
        (0x1000, InputModes::IXOFF),
        (0x2000, InputModes::IMAXBEL),
    ];
    pub const OUTPUT: &[(u32, OutputModes)] = &[
        (0x1, OutputModes::OPOST),
        (0x4, OutputModes::ONLCR),
        (0x8, OutputModes::OCRNL),
        (0x10, OutputModes::ONOCR),
        (0x20, OutputModes::ONLRET),
    ];
    // CS6 and CS7 are one bit each; CS8 is both.
    pub const CONTROL: &[(u32, ControlModes)] = &[
        (0x10, ControlModes::CS6),
        (0x20, ControlModes::CS7),
        (0x40, ControlModes::CSTOPB),
        (0x80, ControlModes::CREAD),
        (0x100, ControlModes::PARENB),
        (0x200, ControlModes::PARODD),
        (0x400, ControlModes::HUPCL),
        (0x800, ControlModes::CLOCAL),
    ];
    pub const LOCAL: &[(u32, LocalModes)] = &[
        (0x1, LocalModes::ISIG),
        (0x2, LocalModes::ICANON),
        (0x8, LocalModes::ECHO),
        (0x10, LocalModes::ECHOE),
        (0x20, LocalModes::ECHOK),
        (0x40, LocalModes::ECHONL),
        (0x80, LocalModes::NOFLSH),
        (0x100, LocalModes::TOSTOP),
        (0x8000, LocalModes::IEXTEN),
    ];
}

#[cfg(unix)]
impl Terminal {
    /// The modes of the terminal behind a stream.
    ///
    /// # Errors
    /// `Notty` if it is none.
    pub fn get(stream: StandardStream) -> Result<Modes, Errno> {
        let settings = stream.settings()?;
        Ok([
            from_host(modes::INPUT, settings.input_modes),
            from_host(modes::OUTPUT, settings.output_modes),
            from_host(modes::CONTROL, settings.control_modes),
            from_host(modes::LOCAL, settings.local_modes),
        ])
    }

    /// Sets the modes of the terminal behind a stream.
    ///
    /// # Errors
    /// `Notty` if it is none.
    pub fn set(&mut self, stream: StandardStream, modes: Modes) -> Result<(), Errno> {
        let mut settings = stream.settings()?;
        if self.before.is_none() {
            self.before = Some((stream, settings.clone()));
        }
        let [input, output, control, local] = modes;
        to_host(modes::INPUT, input, &mut settings.input_modes);
        to_host(modes::OUTPUT, output, &mut settings.output_modes);
        to_host(modes::CONTROL, control, &mut settings.control_modes);
        to_host(modes::LOCAL, local, &mut settings.local_modes);
        if !settings.local_modes.contains(LocalModes::ICANON) {
            // The guest gets no signals. An interrupt would end it with the terminal left like this; without
            // signals the line editor sees the key instead.
            settings.local_modes.remove(LocalModes::ISIG);
        }
        stream.change(&settings)
    }
}

#[cfg(unix)]
impl Drop for Terminal {
    fn drop(&mut self) {
        if let Some((stream, settings)) = self.before.take() {
            // There is nobody left to tell that the terminal has gone away.
            let _ = stream.change(&settings);
        }
    }
}

#[cfg(unix)]
fn from_host<M: bitflags::Flags<Bits: Copy> + Copy>(table: &[(u32, M)], modes: M) -> u32 {
    let set = table.iter().filter(|(_, mode)| modes.contains(*mode));
    set.fold(0, |bits, (bit, _)| bits | bit)
}

#[cfg(unix)]
fn to_host<M: bitflags::Flags<Bits: Copy> + Copy>(table: &[(u32, M)], bits: u32, modes: &mut M) {
    for (bit, mode) in table {
        modes.set(*mode, bits & bit != 0);
    }
}

#[cfg(unix)]
impl StandardStream {
    fn settings(self) -> Result<rustix::termios::Termios, Errno> {
        let settings = match self {
            StandardStream::Input => rustix::termios::tcgetattr(std::io::stdin()),
            StandardStream::Output => rustix::termios::tcgetattr(std::io::stdout()),
            StandardStream::Error => rustix::termios::tcgetattr(std::io::stderr()),
        };
        settings.map_err(|_| Errno::Notty)
    }

    fn change(self, settings: &rustix::termios::Termios) -> Result<(), Errno> {
        use rustix::termios::{OptionalActions, tcsetattr};
        // After what was written is out, so that a line is not shown in the modes of the next one.
        let when = OptionalActions::Drain;
        let changed = match self {
            StandardStream::Input => tcsetattr(std::io::stdin(), when, settings),
            StandardStream::Output => tcsetattr(std::io::stdout(), when, settings),
            StandardStream::Error => tcsetattr(std::io::stderr(), when, settings),
        };
        changed.map_err(|_| Errno::Notty)
    }
}

#[cfg(not(unix))]
impl Terminal {
    /// No terminal has settings here.
    ///
    /// # Errors
    /// Always `Notty`.
    pub fn get(_stream: StandardStream) -> Result<Modes, Errno> {
        Err(Errno::Notty)
    }

    /// No terminal has settings here.
    ///
    /// # Errors
    /// Always `Notty`.
    pub fn set(&mut self, _stream: StandardStream, _modes: Modes) -> Result<(), Errno> {
        Err(Errno::Notty)
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn modes_are_translated_both_ways_and_others_stay() {
        let mut host = LocalModes::ECHO | LocalModes::ICANON | LocalModes::ECHOKE;
        let guest = from_host(modes::LOCAL, host);
        assert_eq!(guest, 0x8 | 0x2);
        to_host(modes::LOCAL, 0x1, &mut host);
        assert_eq!(host, LocalModes::ISIG | LocalModes::ECHOKE);
    }

    #[test]
    fn every_mode_has_a_number_of_its_own() {
        let mut seen = 0;
        for (bit, _) in modes::LOCAL {
            assert_eq!((bit.count_ones(), seen & bit), (1, 0));
            seen |= bit;
        }
    }
}
