//! Short keyed digests that bind a verdict word to the key it was written for.
//!
//! A map element may be recycled while its reader still looks at it (seen on this kernel), so every word from which a
//! permit could follow carries a digest of its own key. Not a cryptographic one: the words are ours, the seed is the
//! node's, and a collision costs an attacker 2^31 tries at something he can neither time nor see.

/// Odd multipliers with about as many ones as zeroes; their values have no other meaning.
const MULTIPLIERS: [u64; 8] = [
    0x9e37_79b9_7f4a_7c15,
    0xbf58_476d_1ce4_e5b9,
    0x94d0_49bb_1331_11eb,
    0xd6e8_feb8_6659_fd93,
    0xa076_1d64_78bd_642f,
    0xe703_7ed1_a0b4_28db,
    0x8ebc_6af0_9c88_c6e3,
    0x5899_65cc_7537_4cc3,
];

/// A digest of up to eight words.
#[inline(always)]
pub fn digest<const N: usize>(seed: u64, words: [u64; N]) -> u32 {
    let sum = sum(seed, words);
    let folded = (sum ^ (sum >> 32)).wrapping_mul(MULTIPLIERS[0]);
    (folded >> 32) as u32
}

/// A sum of products, so that the multiplications do not wait for each other. What differs in a word's upper bits only
/// differs in those of the sum only: words that count somewhere should do so in their lower ones.
#[inline(always)]
pub fn sum<const N: usize>(seed: u64, words: [u64; N]) -> u64 {
    const { assert!(N <= MULTIPLIERS.len()) };
    let mut sum = seed;
    let mut i = 0;
    while i < N {
        sum = sum.wrapping_add((words[i] ^ seed).wrapping_mul(MULTIPLIERS[i]));
        i += 1;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::digest;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_flipped_bit_changes_the_digest(words: [u64; 7], seed: u64, word in 0_usize..7, bit in 0_u32..64) {
            let mut other = words;
            other[word] ^= 1 << bit;
            prop_assert_ne!(digest(seed, words), digest(seed, other));
        }
    }
}
