//! The outbound side: puts a token on what goes to whom it is for.
