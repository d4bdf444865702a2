use bytes::{Bytes, BytesMut};

use super::*;
