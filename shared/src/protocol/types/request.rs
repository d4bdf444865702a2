//! The request of a command as one value to match on.

use super::command::{
    Command, ConnectRequest, HistoryRequest, PingRequest, PresenceRequest, PresenceStatsRequest,
    PublishRequest, RefreshRequest, RpcRequest, SendRequest, SubRefreshRequest, SubscribeRequest,
    UnsubscribeRequest,
};

/// Declares the enum and the ways from and to a command; each line is a request's variant,
/// struct, and field of [`Command`], in the order in which they count.
macro_rules! requests {
    ($( $variant:ident($body:ident) = $field:ident, $label:literal; )*) => {
        /// What a client asks for.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Request {
            $(
                #[doc = concat!("See [`", stringify!($body), "`].")]
                $variant($body),
            )*
        }

        impl Request {
            /// All labels, for metrics that start at zero.
            pub const LABELS: &'static [&'static str] = &[$( $label ),*];

            /// The request's name on the wire, which is also its metric label.
            pub const fn label(&self) -> &'static str {
                match self { $( Self::$variant(_) => $label, )* }
            }
        }

        impl Command {
            /// A command as a client sends it. `id` is 0 for [`Request::Send`] only.
            pub fn new(id: u32, request: Request) -> Self {
                let command = Self { id, ..Self::default() };
                match request {
                    $( Request::$variant(body) => Self { $field: Some(body), ..command }, )*
                }
            }

            /// The request, or `None` if there is none that we know.
            pub fn into_request(self) -> Option<Request> {
                $( if let Some(body) = self.$field { return Some(Request::$variant(body)); } )*
                None
            }

            /// Whether it answers a ping: neither id nor request.
            pub const fn is_pong(&self) -> bool {
                self.id == 0 $( && self.$field.is_none() )*
            }
        }
    };
}

requests! {
    Connect(ConnectRequest) = connect, "connect";
    Subscribe(SubscribeRequest) = subscribe, "subscribe";
    Unsubscribe(UnsubscribeRequest) = unsubscribe, "unsubscribe";
    Publish(PublishRequest) = publish, "publish";
    Presence(PresenceRequest) = presence, "presence";
    PresenceStats(PresenceStatsRequest) = presence_stats, "presence_stats";
    History(HistoryRequest) = history, "history";
    Ping(PingRequest) = ping, "ping";
    Send(SendRequest) = send, "send";
    Rpc(RpcRequest) = rpc, "rpc";
    Refresh(RefreshRequest) = refresh, "refresh";
    SubRefresh(SubRefreshRequest) = sub_refresh, "sub_refresh";
}
