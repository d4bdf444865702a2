//! How far two byte strings are the same.

/// Bytes compared at a time, for speed.
const STRIDE_BYTES: usize = 32;

/// How many bytes at the beginnings of `a` and `b` are the same.
pub(super) fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    let (strides_a, _) = a.as_chunks::<STRIDE_BYTES>();
    let (strides_b, _) = b.as_chunks::<STRIDE_BYTES>();
    let strides = count_same(strides_a.iter(), strides_b.iter()) * STRIDE_BYTES;
    strides + count_same(a[strides..].iter(), b[strides..].iter())
}

/// How many bytes at the ends of `a` and `b` are the same.
pub(super) fn common_suffix(a: &[u8], b: &[u8]) -> usize {
    let (_, strides_a) = a.as_rchunks::<STRIDE_BYTES>();
    let (_, strides_b) = b.as_rchunks::<STRIDE_BYTES>();
    let strides = count_same(strides_a.iter().rev(), strides_b.iter().rev()) * STRIDE_BYTES;
    let (a, b) = (&a[..a.len() - strides], &b[..b.len() - strides]);
    strides + count_same(a.iter().rev(), b.iter().rev())
}

/// How many items are the same before the first that differs.
fn count_same<T: PartialEq>(a: impl Iterator<Item = T>, b: impl Iterator<Item = T>) -> usize {
    a.zip(b).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_of_common_bytes_is_counted() {
        let all: Vec<u8> = (0..100).collect();
        for same in 0..=all.len() {
            let mut other = all.clone();
            if let Some(byte) = other.get_mut(same) {
                *byte ^= 0x80;
            }
            assert_eq!(common_prefix(&all, &other), same);
            other.reverse();
            let reversed: Vec<u8> = all.iter().rev().copied().collect();
            assert_eq!(common_suffix(&reversed, &other), same);
        }
    }

    #[test]
    fn the_shorter_one_ends_it() {
        let all: Vec<u8> = (0..100).collect();
        for length in 0..=all.len() {
            assert_eq!(common_prefix(&all, &all[..length]), length);
            assert_eq!(common_suffix(&all[100 - length..], &all), length);
        }
    }
}
