//! The one table of error, close and unsubscribe codes: number, text, what a client does with
//! it, and the metric label. Nothing else in the project spells a code of the client protocol.
//!
//! SDKs decide by number alone: close codes 3500-3999 and 4500-4999 end the client's session,
//! others make it reconnect; unsubscribe codes from 2500 make it subscribe again.

/// Declares one code table: an enum, its numbers, texts and labels.
macro_rules! codes {
    (
        $(#[$meta:meta])*
        pub enum $name:ident: $number:ty {
            $( $(#[$doc:meta])* $variant:ident = $code:literal, $text:literal, $label:literal; )*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $( $(#[$doc])* $variant, )*
        }

        impl $name {
            /// The whole table, for metrics that start at zero.
            pub const ALL: &'static [Self] = &[$( Self::$variant ),*];

            /// The number on the wire.
            pub const fn code(self) -> $number {
                match self { $( Self::$variant => $code, )* }
            }

            /// The text on the wire. Never empty and never valid JSON, because centrifuge-js
            /// ignores a close code without a reason and parses a reason that looks like JSON.
            pub const fn text(self) -> &'static str {
                match self { $( Self::$variant => $text, )* }
            }

            /// A metric label.
            pub const fn label(self) -> &'static str {
                match self { $( Self::$variant => $label, )* }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{} {}", self.code(), self.text())
            }
        }
    };
}

codes! {
    /// Why a command was refused; the connection stays.
    pub enum ErrorCode: u32 {
        /// Our fault; the client may try again.
        Internal = 100, "internal server error", "internal";
        /// The command needs an identity that this connection does not have.
        Unauthorized = 101, "unauthorized", "unauthorized";
        /// No such channel, or no such namespace.
        UnknownChannel = 102, "unknown channel", "unknown_channel";
        /// The channel's options or the token do not allow it.
        PermissionDenied = 103, "permission denied", "permission_denied";
        /// No such RPC method.
        MethodNotFound = 104, "method not found", "method_not_found";
        /// This connection is subscribed already, or about to be.
        AlreadySubscribed = 105, "already subscribed", "already_subscribed";
        /// A limit of this connection is reached, such as the number of channels.
        LimitExceeded = 106, "limit exceeded", "limit_exceeded";
        /// A field of the command has no acceptable value.
        BadRequest = 107, "bad request", "bad_request";
        /// The feature is not enabled.
        NotAvailable = 108, "not available", "not_available";
        /// The token has expired: the client fetches a new one and tries again.
        TokenExpired = 109, "token expired", "token_expired";
        /// The credentials had expired when they were handed over.
        Expired = 110, "expired", "expired";
        /// Rate limited; the client may try again later.
        TooManyRequests = 111, "too many requests", "too_many_requests";
        /// The position the client asked to recover from is gone.
        UnrecoverablePosition = 112, "unrecoverable position", "unrecoverable_position";
        /// Another page of the same state is being read.
        ConcurrentPagination = 113, "concurrent pagination", "concurrent_pagination";
    }
}

impl ErrorCode {
    /// Whether the same command may succeed later. SDKs retry connect, subscribe and refresh.
    pub const fn temporary(self) -> bool {
        matches!(
            self,
            Self::Internal | Self::TooManyRequests | Self::ConcurrentPagination
        )
    }
}

codes! {
    /// Why a connection is closed: the code of the WebSocket close frame.
    pub enum DisconnectCode: u16 {
        /// The client went away by itself. Not sent.
        ConnectionClosed = 3000, "connection closed", "connection_closed";
        /// The worker stops or drains.
        Shutdown = 3001, "shutdown", "shutdown";
        /// Our fault.
        Internal = 3004, "internal server error", "internal";
        /// The connection's credentials ran out and were not refreshed.
        ConnectionExpired = 3005, "connection expired", "connection_expired";
        /// The credentials of a server-side subscription ran out.
        SubscriptionExpired = 3006, "subscription expired", "subscription_expired";
        /// The client reads too slowly: its out-queue is full.
        Slow = 3008, "slow", "slow";
        /// Writing to the client made no progress.
        WriteError = 3009, "write error", "write_error";
        /// A server-side subscription lost messages.
        InsufficientState = 3010, "insufficient state", "insufficient_state";
        /// An operator asked for it.
        ForceReconnect = 3011, "force reconnect", "force_reconnect";
        /// A ping was not answered in time.
        NoPong = 3012, "no pong", "no_pong";
        /// Rate limited.
        TooManyRequests = 3013, "too many requests", "too_many_requests";
        /// The client is to drop its tokens and positions before it reconnects.
        StateInvalidated = 3014, "state invalidated", "state_invalidated";
        /// The token is not acceptable, now or later.
        InvalidToken = 3500, "invalid token", "invalid_token";
        /// The client breaks the protocol.
        BadRequest = 3501, "bad request", "bad_request";
        /// No connect command in time.
        Stale = 3502, "stale", "stale";
        /// An operator or the application asked for it.
        ForceDisconnect = 3503, "force disconnect", "force_disconnect";
        /// The user has too many connections.
        ConnectionLimit = 3504, "connection limit", "connection_limit";
        /// The connection was given more server-side subscriptions than it may have.
        ChannelLimit = 3505, "channel limit", "channel_limit";
        /// A payload cannot be carried by the client's format.
        InappropriateProtocol = 3506, "inappropriate protocol", "inappropriate_protocol";
        /// The user may not connect.
        PermissionDenied = 3507, "permission denied", "permission_denied";
        /// The client used a feature that is not enabled and has no reply to be told by.
        NotAvailable = 3508, "not available", "not_available";
        /// The client made too many mistakes.
        TooManyErrors = 3509, "too many errors", "too_many_errors";
    }
}

impl DisconnectCode {
    /// Whether SDKs reconnect after it (with back-off). Otherwise it is terminal, which is never
    /// the right answer to overload.
    pub const fn reconnects(self) -> bool {
        self.code() < 3500
    }
}

codes! {
    /// Why the server ends a subscription: the code of the unsubscribe push.
    pub enum UnsubscribeCode: u32 {
        /// An operator or the application asked for it.
        Server = 2000, "server unsubscribe", "server";
        /// The subscription lost messages.
        InsufficientState = 2500, "insufficient state", "insufficient_state";
        /// The subscription's credentials ran out and were not refreshed.
        SubscriptionExpired = 2501, "subscription expired", "subscription_expired";
        /// The client is to drop its token and position before it subscribes again.
        StateInvalidated = 2502, "state invalidated", "state_invalidated";
    }
}

impl UnsubscribeCode {
    /// Whether SDKs subscribe again by themselves (with back-off).
    pub const fn resubscribes(self) -> bool {
        self.code() >= 2500
    }
}
