//! What a fossil delta costs, made once per publication of a channel whose subscribers asked for
//! deltas.
//!
//! Three updates of a document, from the usual to the worst: one value changed in the middle, one in
//! each kilobyte, and a document that has nothing in common with the one before. `copy` is the floor:
//! the time to copy the new document, which is what a publication without a delta costs.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use flotilla_shared::delta::fossil_delta;

/// Sizes of the document, in bytes.
const SIZES: [usize; 4] = [100, 1_024, 16_384, 65_536];

/// Bytes between two changes, where several values changed.
const CHANGE_BYTES: usize = 1_024;

/// A JSON array of numbered rows of `bytes` bytes, which no other `seed` gives.
fn document(bytes: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut document = String::from("[");
    while document.len() < bytes {
        // Knuth's multiplier for 64 bits; the upper half is good enough.
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        document.push_str(&format!(
            "{{\"id\":{},\"price\":{}}},",
            state >> 40,
            state >> 48
        ));
    }
    document.truncate(bytes);
    document.into_bytes()
}

/// The document with a byte changed at each of these places.
fn changed(document: &[u8], places: impl Iterator<Item = usize>) -> Vec<u8> {
    let mut changed = document.to_vec();
    places.for_each(|place| changed[place] ^= 1);
    changed
}

fn encoding(c: &mut Criterion) {
    let mut group = c.benchmark_group("delta");
    for bytes in SIZES {
        let old = document(bytes, 1);
        let updates = [
            ("one value", changed(&old, std::iter::once(bytes / 2))),
            (
                "several values",
                changed(&old, (50..bytes).step_by(CHANGE_BYTES)),
            ),
            ("everything", document(bytes, 2)),
        ];
        group.throughput(Throughput::Bytes(bytes as u64));
        for (name, new) in updates {
            group.bench_function(BenchmarkId::new(name, bytes), |b| {
                b.iter(|| fossil_delta(black_box(&old), black_box(&new)));
            });
        }
        group.bench_function(BenchmarkId::new("copy", bytes), |b| {
            b.iter(|| black_box(&old).to_vec());
        });
    }
    group.finish();
}

criterion_group!(benches, encoding);
criterion_main!(benches);
