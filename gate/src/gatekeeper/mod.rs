//! The inbound side: lets in who may.
