# frozen_string_literal: true

namespace :lint do
  desc "Format and lints of the Rust code"
  task :rust do
    sh "cargo", "fmt", "--all", "--check"
    sh "cargo", "clippy", "--locked", "--quiet", "--workspace", "--all-targets", "--", "--deny", "warnings"
  end

  desc "Format and lints of the Ruby code"
  task :ruby do
    # In the checkout, even if cargo works elsewhere (bin/support/crates/in_workspace).
    sh "bundle", "exec", "rubocop", chdir: File.dirname(File.realpath("Gemfile"))
  end

  desc "The documentation of the Ruby API: no unknown parameter, no broken link"
  task :docs do
    sh "bundle", "exec", "yard", "doc", "--quiet", "--no-progress", "--fail-on-warning",
       chdir: File.dirname(File.realpath("Gemfile"))
  end

  desc "The rules of the architecture"
  task :architecture do
    ruby "bin/support/check_architecture"
  end
end

desc "All linters"
task lint: %w[lint:rust lint:ruby lint:docs lint:architecture]

task default: %w[spec lint]
