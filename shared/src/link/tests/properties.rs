//! What holds for any message, any bytes, and any way to cut them.

use std::fmt::Debug;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use prost::Message;

use super::strategies::{to_gateway, to_worker};
use super::{read, stream_of};
use crate::link::{ToGateway, ToWorker};

/// `stream` in pieces.
fn cut<'a>(stream: &'a [u8], cuts: &[Index]) -> Vec<&'a [u8]> {
    let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
    places.sort_unstable();
    let mut rest = stream;
    let mut from = 0;
    let mut pieces: Vec<&[u8]> = places
        .into_iter()
        .map(|to| {
            let (piece, behind) = rest.split_at(to - from);
            (rest, from) = (behind, to);
            piece
        })
        .collect();
    pieces.push(rest);
    pieces
}

/// Messages come out as they went in, and an incomplete one at the end is waited for.
fn check_order<M>(messages: Vec<M>, cuts: &[Index], end: Index) -> Result<(), TestCaseError>
where
    M: Message + Default + PartialEq + Debug,
{
    let stream = stream_of(&messages);
    let begun = &stream[..end.index(stream.len() + 1)];
    let (early, left) = read::<M>(cut(begun, cuts));
    prop_assert_eq!(&early[..], &messages[..early.len()]);
    let complete = stream_of(&early).len();
    prop_assert_eq!(left, Ok(begun.len() - complete));

    let (all, left) = read::<M>(cut(&stream, cuts));
    prop_assert_eq!(all, messages);
    prop_assert_eq!(left, Ok(0));
    Ok(())
}

/// Bytes of any origin are read the same way however they come, and what can be read can be written again.
fn check_hostile<M>(stream: &[u8], cuts: &[Index]) -> Result<(), TestCaseError>
where
    M: Message + Default + PartialEq + Debug,
{
    let (messages, end) = read::<M>([stream]);
    prop_assert_eq!((&messages, &end), (&read(cut(stream, cuts)).0, &end));
    let bytewise = read::<M>(stream.chunks(1));
    prop_assert_eq!((&messages, end), (&bytewise.0, bytewise.1));

    let again = stream_of(&messages);
    prop_assert_eq!(read::<M>([again.as_slice()]), (messages, Ok(0)));
    Ok(())
}

fn cuts() -> impl Strategy<Value = Vec<Index>> {
    vec(any::<Index>(), 0..12)
}

proptest! {
    #[test]
    fn what_a_gateway_says_comes_out_as_it_went_in(
        messages in vec(to_worker(), 0..6), cuts in cuts(), end in any::<Index>(),
    ) {
        check_order(messages, &cuts, end)?;
    }

    #[test]
    fn what_a_worker_says_comes_out_as_it_went_in(
        messages in vec(to_gateway(), 0..6), cuts in cuts(), end in any::<Index>(),
    ) {
        check_order(messages, &cuts, end)?;
    }

    #[test]
    fn no_bytes_make_a_reader_panic(stream in vec(any::<u8>(), 0..256), cuts in cuts()) {
        check_hostile::<ToWorker>(&stream, &cuts)?;
        check_hostile::<ToGateway>(&stream, &cuts)?;
    }

    #[test]
    fn no_damage_to_messages_makes_a_reader_panic(
        said in vec(to_worker(), 1..4),
        answered in vec(to_gateway(), 1..4),
        damage in vec((any::<Index>(), any::<u8>()), 1..8),
        cuts in cuts(),
    ) {
        let mut stream = stream_of(&said);
        stream.extend(stream_of(&answered));
        for (place, byte) in damage {
            let place = place.index(stream.len());
            stream[place] = byte;
        }
        check_hostile::<ToWorker>(&stream, &cuts)?;
        check_hostile::<ToGateway>(&stream, &cuts)?;
    }
}
