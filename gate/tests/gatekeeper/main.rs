//! The gatekeeper over real sockets: what clients send byte by byte, and what the app behind it gets to see of it.

mod admin;
mod ages;
mod app;
mod command_line;
mod credentials;
mod grpc;
mod http2;
mod identity;
mod leaving;
mod limits;
mod load;
mod paths;
mod raw;
mod readiness;
mod restart;
mod smuggling;
mod sockets;
mod tls;
mod upgrade;
mod world;
