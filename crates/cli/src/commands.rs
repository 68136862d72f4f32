//! All commands, by subject; the registry at the end is what `cf` knows.

mod apps;
mod curl;
mod deploy;
mod domains;
mod env;
mod events;
mod lifecycle;
mod logs;
mod misc;
mod orgs;
mod push;
mod roles;
mod routes;
mod scale;
mod session;
mod spaces;
mod summary;
mod target;
mod tasks;
mod users;

use crate::command::{Entry, entry};

pub const COMMANDS: &[Entry] = &[
    entry::<misc::Help>(),
    entry::<misc::Version>(),
    entry::<misc::OauthToken>(),
    entry::<misc::Buildpacks>(),
    entry::<misc::Stacks>(),
    entry::<session::Login>(),
    entry::<session::Auth>(),
    entry::<session::Logout>(),
    entry::<target::Api>(),
    entry::<target::Target>(),
    entry::<curl::Curl>(),
    entry::<orgs::Orgs>(),
    entry::<orgs::Org>(),
    entry::<orgs::CreateOrg>(),
    entry::<orgs::DeleteOrg>(),
    entry::<orgs::RenameOrg>(),
    entry::<spaces::Spaces>(),
    entry::<spaces::Space>(),
    entry::<spaces::CreateSpace>(),
    entry::<spaces::DeleteSpace>(),
    entry::<spaces::RenameSpace>(),
    entry::<apps::Apps>(),
    entry::<apps::App>(),
    entry::<apps::CreateApp>(),
    entry::<apps::Delete>(),
    entry::<apps::Rename>(),
    entry::<apps::CreateAppManifest>(),
    entry::<push::Push>(),
    entry::<push::ApplyManifest>(),
    entry::<lifecycle::Start>(),
    entry::<lifecycle::Stop>(),
    entry::<lifecycle::Restart>(),
    entry::<lifecycle::Restage>(),
    entry::<lifecycle::RestartAppInstance>(),
    entry::<scale::Scale>(),
    entry::<events::Events>(),
    entry::<logs::Logs>(),
    entry::<env::Env>(),
    entry::<env::SetEnv>(),
    entry::<env::UnsetEnv>(),
    entry::<tasks::RunTask>(),
    entry::<tasks::Tasks>(),
    entry::<tasks::Task>(),
    entry::<tasks::TerminateTask>(),
    entry::<domains::Domains>(),
    entry::<domains::CreatePrivateDomain>(),
    entry::<domains::CreateSharedDomain>(),
    entry::<routes::Routes>(),
    entry::<routes::CreateRoute>(),
    entry::<routes::MapRoute>(),
    entry::<routes::UnmapRoute>(),
    entry::<routes::DeleteRoute>(),
    entry::<routes::DeleteOrphanedRoutes>(),
    entry::<users::CreateUser>(),
    entry::<users::DeleteUser>(),
    entry::<users::Passwd>(),
    entry::<roles::SetOrgRole>(),
    entry::<roles::UnsetOrgRole>(),
    entry::<roles::SetSpaceRole>(),
    entry::<roles::UnsetSpaceRole>(),
    entry::<roles::OrgUsers>(),
    entry::<roles::SpaceUsers>(),
];
