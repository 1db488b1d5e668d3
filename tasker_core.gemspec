# frozen_string_literal: true

require_relative "lib/tasker_core/version"

Gem::Specification.new do |spec|
  spec.name = "tasker_core"
  spec.version = TaskerCore::VERSION
  spec.summary = "Workflow orchestration for Rails on PostgreSQL, with a Rust core"
  spec.description = "Declare a graph of steps and start it inside your own transaction. Workers run the steps in " \
                     "parallel, retry them with backoff and recover them after a crash, and a command explains what " \
                     "a task waits for."
  spec.authors = ["The tasker_core maintainers"]
  spec.license = "MIT"
  spec.homepage = "https://rubygems.org/gems/tasker_core"
  # The address of the public repository; RELEASING.md says when to set it.
  repository = nil
  documentation = "https://www.rubydoc.info/gems/#{spec.name}/#{spec.version}"
  spec.metadata = {
    "source_code_uri" => repository && "#{repository}/tree/v#{spec.version}",
    "bug_tracker_uri" => repository && "#{repository}/issues",
    "changelog_uri" => "#{documentation}/file/CHANGELOG.md",
    "documentation_uri" => documentation,
    "rubygems_mfa_required" => "true"
  }.compact

  spec.required_ruby_version = ">= 3.1"
  # With every member of the workspace, including those that the extension does not need: cargo rejects a workspace that
  # lacks a member, and with --locked a lock file with more than its members need.
  spec.files = Dir["{app,config,db,docs,exe,lib,sig}/**/*", "ext/*.md", "ext/*/{Cargo.toml,*.rb}", "ext/*/src/**/*.rs",
                   "Cargo.{toml,lock}", "{CHANGELOG,README}.md", "LICENSE", ".yardopts"]
               .reject { |path| path.end_with?(".so", ".bundle") }
  spec.bindir = "exe"
  spec.executables = ["tasker"]
  spec.extensions = ["ext/tasker_core/extconf.rb"]

  spec.add_dependency "activerecord", ">= 7.1", "< 9"
  spec.add_dependency "after_commit_everywhere", "~> 1.4"
  spec.add_dependency "dry-events", ">= 1.0", "< 2"
  spec.add_dependency "pg", "~> 1.5"
  spec.add_dependency "railties", ">= 7.1", "< 9"
  spec.add_dependency "rb_sys", "~> 0.9.100"
  spec.add_dependency "timeout", ">= 0.4", "< 1"
  spec.add_dependency "zeitwerk", "~> 2.6"
end
