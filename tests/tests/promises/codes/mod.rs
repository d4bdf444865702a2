//! Every code that the protocol has is seen by a client here, or there is a reason why no client ever sees it.
//!
//! The tables of codes are walked through, and each is matched on: one that is new does not compile before somebody has
//! said how it comes about.

mod close;
mod error;
mod stage;
mod unsubscribe;

/// What a client has seen of a code.
enum Seen<T> {
    /// What carried it.
    Said(T),
    /// Nothing, because of this.
    Never(&'static str),
}

/// Whether what was said is what is to be said; what never is, is told with its reason.
fn check<T: PartialEq + std::fmt::Debug>(
    code: impl std::fmt::Display,
    seen: Seen<T>,
    expected: &T,
) {
    match seen {
        Seen::Said(said) => assert_eq!(&said, expected, "for {code}"),
        Seen::Never(reason) => println!("{code}: never, as {reason}"),
    }
}
