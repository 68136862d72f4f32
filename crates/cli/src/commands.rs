//! All commands, by subject; the registry at the end is what `cf` knows.

mod apps;
mod bindings;
mod buildpacks;
mod copy_source;
mod curl;
mod deploy;
mod deployments;
mod domains;
mod droplets;
mod env;
mod env_groups;
mod events;
mod feature_flags;
mod health_checks;
mod isolation_segments;
mod labels;
mod lifecycle;
mod logs;
mod marketplace;
mod misc;
mod orgs;
mod packages;
mod push;
mod quotas;
mod revisions;
mod roles;
mod rollout;
mod routes;
mod scale;
mod security_groups;
mod services;
mod session;
mod settings;
mod spaces;
mod ssh;
mod stacks;
mod summary;
mod target;
mod tasks;
mod user_provided;
mod users;

use crate::command::{Entry, entry};

pub const COMMANDS: &[Entry] = &[
    entry::<misc::Help>(),
    entry::<misc::Version>(),
    entry::<misc::OauthToken>(),
    entry::<buildpacks::Buildpacks>(),
    entry::<buildpacks::CreateBuildpack>(),
    entry::<buildpacks::UpdateBuildpack>(),
    entry::<buildpacks::DeleteBuildpack>(),
    entry::<stacks::Stacks>(),
    entry::<stacks::Stack>(),
    entry::<stacks::UpdateStack>(),
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
    entry::<copy_source::CopySource>(),
    entry::<push::Push>(),
    entry::<push::ApplyManifest>(),
    entry::<lifecycle::Start>(),
    entry::<lifecycle::Stop>(),
    entry::<lifecycle::Restart>(),
    entry::<lifecycle::Restage>(),
    entry::<lifecycle::RestartAppInstance>(),
    entry::<deployments::CancelDeployment>(),
    entry::<deployments::ContinueDeployment>(),
    entry::<deployments::Rollback>(),
    entry::<revisions::Revisions>(),
    entry::<revisions::Revision>(),
    entry::<packages::Packages>(),
    entry::<packages::CreatePackage>(),
    entry::<packages::StagePackage>(),
    entry::<droplets::Droplets>(),
    entry::<droplets::SetDroplet>(),
    entry::<droplets::DownloadDroplet>(),
    entry::<health_checks::GetHealthCheck>(),
    entry::<health_checks::SetHealthCheck>(),
    entry::<health_checks::GetReadinessHealthCheck>(),
    entry::<ssh::EnableSsh>(),
    entry::<ssh::DisableSsh>(),
    entry::<ssh::SshEnabled>(),
    entry::<ssh::AllowSpaceSsh>(),
    entry::<ssh::DisallowSpaceSsh>(),
    entry::<ssh::SpaceSshAllowed>(),
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
    entry::<domains::DeletePrivateDomain>(),
    entry::<domains::DeleteSharedDomain>(),
    entry::<domains::SharePrivateDomain>(),
    entry::<domains::UnsharePrivateDomain>(),
    entry::<domains::RouterGroups>(),
    entry::<marketplace::Marketplace>(),
    entry::<services::Services>(),
    entry::<services::Service>(),
    entry::<services::DeleteService>(),
    entry::<services::RenameService>(),
    entry::<user_provided::CreateUserProvidedService>(),
    entry::<user_provided::UpdateUserProvidedService>(),
    entry::<bindings::BindService>(),
    entry::<bindings::UnbindService>(),
    entry::<bindings::BindRouteService>(),
    entry::<bindings::UnbindRouteService>(),
    entry::<routes::Routes>(),
    entry::<routes::CreateRoute>(),
    entry::<routes::MapRoute>(),
    entry::<routes::UnmapRoute>(),
    entry::<routes::DeleteRoute>(),
    entry::<routes::DeleteOrphanedRoutes>(),
    entry::<routes::ShowRoute>(),
    entry::<routes::CheckRoute>(),
    entry::<routes::UpdateRoute>(),
    entry::<routes::UpdateDestination>(),
    entry::<routes::ShareRoute>(),
    entry::<routes::UnshareRoute>(),
    entry::<routes::MoveRoute>(),
    entry::<users::CreateUser>(),
    entry::<users::DeleteUser>(),
    entry::<users::Passwd>(),
    entry::<roles::SetOrgRole>(),
    entry::<roles::UnsetOrgRole>(),
    entry::<roles::SetSpaceRole>(),
    entry::<roles::UnsetSpaceRole>(),
    entry::<roles::OrgUsers>(),
    entry::<roles::SpaceUsers>(),
    entry::<quotas::org::OrgQuotas>(),
    entry::<quotas::org::OrgQuota>(),
    entry::<quotas::org::CreateOrgQuota>(),
    entry::<quotas::org::UpdateOrgQuota>(),
    entry::<quotas::org::DeleteOrgQuota>(),
    entry::<quotas::org::SetOrgQuota>(),
    entry::<quotas::space::SpaceQuotas>(),
    entry::<quotas::space::SpaceQuota>(),
    entry::<quotas::space::CreateSpaceQuota>(),
    entry::<quotas::space::UpdateSpaceQuota>(),
    entry::<quotas::space::DeleteSpaceQuota>(),
    entry::<quotas::space::SetSpaceQuota>(),
    entry::<quotas::space::UnsetSpaceQuota>(),
    entry::<security_groups::SecurityGroup>(),
    entry::<security_groups::SecurityGroups>(),
    entry::<security_groups::CreateSecurityGroup>(),
    entry::<security_groups::UpdateSecurityGroup>(),
    entry::<security_groups::DeleteSecurityGroup>(),
    entry::<security_groups::BindSecurityGroup>(),
    entry::<security_groups::UnbindSecurityGroup>(),
    entry::<security_groups::RunningSecurityGroups>(),
    entry::<security_groups::StagingSecurityGroups>(),
    entry::<security_groups::BindRunningSecurityGroup>(),
    entry::<security_groups::BindStagingSecurityGroup>(),
    entry::<security_groups::UnbindRunningSecurityGroup>(),
    entry::<security_groups::UnbindStagingSecurityGroup>(),
    entry::<env_groups::RunningEnvironmentVariableGroup>(),
    entry::<env_groups::StagingEnvironmentVariableGroup>(),
    entry::<env_groups::SetRunningEnvironmentVariableGroup>(),
    entry::<env_groups::SetStagingEnvironmentVariableGroup>(),
    entry::<isolation_segments::IsolationSegments>(),
    entry::<isolation_segments::CreateIsolationSegment>(),
    entry::<isolation_segments::DeleteIsolationSegment>(),
    entry::<isolation_segments::EnableOrgIsolation>(),
    entry::<isolation_segments::DisableOrgIsolation>(),
    entry::<isolation_segments::SetOrgDefaultIsolationSegment>(),
    entry::<isolation_segments::ResetOrgDefaultIsolationSegment>(),
    entry::<isolation_segments::SetSpaceIsolationSegment>(),
    entry::<isolation_segments::ResetSpaceIsolationSegment>(),
    entry::<feature_flags::FeatureFlags>(),
    entry::<feature_flags::FeatureFlag>(),
    entry::<feature_flags::EnableFeatureFlag>(),
    entry::<feature_flags::DisableFeatureFlag>(),
    entry::<labels::Labels>(),
    entry::<labels::SetLabel>(),
    entry::<labels::UnsetLabel>(),
    entry::<settings::Config>(),
];
