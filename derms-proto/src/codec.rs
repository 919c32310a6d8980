//! How messages become bytes on a stream.

use std::marker::PhantomData;

use prost::Message;
use tonic::codec::{BufferSettings, Codec};
use tonic_prost::{ProstDecoder, ProstEncoder};

/// Room for the everyday messages; a buffer grows with a larger one. tonic's own default takes
/// twice 8 KiB for each stream, which is more than all else that an idle agent costs.
const BUFFER: usize = 256;
/// tonic's default: so much may be gathered before it is handed on.
const GATHER: usize = 32 << 10;

/// Protobuf by prost, with small buffers. Named by the generated code.
#[derive(Debug)]
pub(crate) struct LinkCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for LinkCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for LinkCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = ProstDecoder<U>;

    fn encoder(&mut self) -> ProstEncoder<T> {
        ProstEncoder::new(BufferSettings::new(BUFFER, GATHER))
    }

    fn decoder(&mut self) -> ProstDecoder<U> {
        ProstDecoder::new(BufferSettings::new(BUFFER, GATHER))
    }
}
