//! Waiting without taking up room: there is a keeper for every container, and nearly all of the time nearly all of them
//! wait. One that has waited for a while gives the pages of its program back, all but the few it waits in.
#![expect(unsafe_code, reason = "system calls")]

use libc::{c_long, c_ulong, pollfd};

/// Idle for this long, a keeper is at rest.
const BUSY_MS: c_ulong = 1000;

/// Waits until any of these is ready. `false` when nothing is.
pub fn wait(waiting: &mut [pollfd]) -> bool {
    let segments = segments();
    poll(waiting, BUSY_MS) > 0 || rest(waiting, &segments) > 0
}

/// Where the program's unchanging parts lie; they come back from its file by themselves.
fn segments() -> [(c_ulong, c_ulong); 4] {
    let mut found = [(0, 0); 4];
    // SAFETY: the kernel says where the program headers are; they are mapped as long as the program is.
    unsafe {
        let (first, count) = (
            libc::getauxval(libc::AT_PHDR) as *const libc::Elf64_Phdr,
            libc::getauxval(libc::AT_PHNUM),
        );
        let headers = (0..count as usize).map(|number| &*first.add(number));
        let fixed = headers
            .filter(|header| header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_W == 0);
        for (segment, header) in found.iter_mut().zip(fixed) {
            const PAGE: c_ulong = 4096;
            let start = header.p_vaddr / PAGE * PAGE;
            // A page that this shares with a part that changes stays.
            let end = (header.p_vaddr + header.p_filesz) / PAGE * PAGE;
            *segment = (start, end.saturating_sub(start));
        }
    }
    found
}

/// Everything from here to the end of the wait happens in this one function, so that no other page is called back.
#[inline(never)]
fn rest(waiting: &mut [pollfd], segments: &[(c_ulong, c_ulong); 4]) -> c_long {
    let mut number = 0;
    while number < segments.len() {
        let (start, length) = segments[number];
        if length > 0 {
            call(libc::SYS_madvise, [start, length, libc::MADV_DONTNEED as c_ulong, 0, 0]);
        }
        number += 1;
    }
    call(libc::SYS_ppoll, [waiting.as_mut_ptr() as c_ulong, waiting.len() as c_ulong, 0, 0, 0])
}

fn poll(waiting: &mut [pollfd], milliseconds: c_ulong) -> i32 {
    // SAFETY: the list and its length belong together; descriptors of -1 are passed over.
    unsafe { libc::poll(waiting.as_mut_ptr(), waiting.len() as _, milliseconds as i32) }
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn call(number: c_long, args: [c_ulong; 5]) -> c_long {
    let result;
    // SAFETY: a system call of the kernel's convention; what it is given outlives it.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") number => result,
            in("rdi") args[0], in("rsi") args[1], in("rdx") args[2], in("r10") args[3], in("r8") args[4],
            lateout("rcx") _, lateout("r11") _,
            options(nostack)
        );
    }
    result
}

#[cfg(not(target_arch = "x86_64"))]
fn call(number: c_long, args: [c_ulong; 5]) -> c_long {
    crate::sys::call(number, [args[0], args[1], args[2], args[3], args[4], 0])
}
