/// The books of one kernel: its profile, modules, taints. (Skeleton; grows with the stages.)
#[derive(Debug, Default)]
pub struct Kernel {}
