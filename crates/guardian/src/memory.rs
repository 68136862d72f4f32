//! What this process keeps of the memory it no longer uses.

/// From this many bytes on, a block comes from the kernel and goes back to it when it is freed.
const LARGE: libc::c_int = 1024 * 1024;

/// Lets large blocks return to the host as soon as they are freed. Without it the C library learns from the first one
/// (a password's 12 MiB, a package) that such blocks are usual, and keeps the next for good.
/// To be called before there are threads; hosts with another C library take no notice.
pub fn give_back_large_blocks() {
    #[cfg(target_env = "gnu")]
    #[expect(unsafe_code, reason = "only the C library's own call sets this")]
    // SAFETY: plain numbers, and no other thread allocates yet.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
    }
}
