//! Randomness of a process: the system's, or a seeded sequence for runs that must repeat exactly.

#![forbid(unsafe_code)]

use super::errno::{Errno, Result};

/// Bytes asked from the system at once; between two requests an interruption is noticed.
pub(crate) const CHUNK: usize = 64 * 1024;

/// Where a process gets random bytes from.
#[derive(Clone, Debug)]
pub struct Random(Source);

#[derive(Clone, Debug)]
enum Source {
    System,
    Seeded(Xoshiro256),
}

impl Random {
    /// The system's entropy.
    pub fn system() -> Random {
        Random(Source::System)
    }

    /// A sequence determined by the seed. Not for secrets.
    pub fn seeded(seed: u64) -> Random {
        Random(Source::Seeded(Xoshiro256::new(seed)))
    }

    /// Fills a buffer.
    ///
    /// # Errors
    /// `Io` if the system has no entropy.
    pub fn fill(&mut self, buffer: &mut [u8]) -> Result<()> {
        match &mut self.0 {
            Source::System => getrandom::fill(buffer).map_err(|_| Errno::Io),
            Source::Seeded(generator) => {
                for chunk in buffer.chunks_mut(8) {
                    let bytes = generator.next().to_le_bytes();
                    for (to, from) in chunk.iter_mut().zip(bytes) {
                        *to = from;
                    }
                }
                Ok(())
            }
        }
    }
}

impl Default for Random {
    fn default() -> Random {
        Random::system()
    }
}

/// xoshiro256** of Blackman and Vigna, its state filled by splitmix64.
#[derive(Clone, Debug)]
struct Xoshiro256([u64; 4]);

impl Xoshiro256 {
    fn new(seed: u64) -> Xoshiro256 {
        let mut state = seed;
        Xoshiro256(std::array::from_fn(|_| {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut word = state;
            word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            word ^ (word >> 31)
        }))
    }

    fn next(&mut self) -> u64 {
        let [a, b, c, d] = &mut self.0;
        let result = b.wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let shifted = *b << 17;
        *c ^= *a;
        *d ^= *b;
        *b ^= *c;
        *a ^= *d;
        *c ^= shifted;
        *d = d.rotate_left(45);
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_bytes_and_another_seed_others() {
        let mut first = [0; 37];
        let mut again = [0; 37];
        let mut other = [0; 37];
        Random::seeded(7).fill(&mut first).unwrap();
        Random::seeded(7).fill(&mut again).unwrap();
        Random::seeded(8).fill(&mut other).unwrap();
        assert_eq!(first, again);
        assert_ne!(first, other);
    }

    #[test]
    fn the_system_gives_different_bytes_each_time() {
        let mut first = [0; 32];
        let mut second = [0; 32];
        let mut random = Random::system();
        random.fill(&mut first).unwrap();
        random.fill(&mut second).unwrap();
        assert_ne!(first, second);
    }
}
