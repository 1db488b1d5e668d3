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

  # The version of the parser is fixed, so that a new one breaks no unrelated change.
  desc "GitHub's parser reads the workflows, if Node 20 or later and the npm registry can be used"
  task :workflows do
    directory = File.expand_path("tmp/workflows")
    parser = "#{directory}/node_modules/@actions/workflow-parser"
    install = %w[npm install --silent --no-audit --no-fund --ignore-scripts
                 @actions/workflow-parser@0.3.61 --prefix]
    if `node --version 2>&1`[/v(\d+)/, 1].to_i < 20
      next puts("lint:workflows: skipped, because Node 20 is not installed")
    elsif !Dir.exist?(parser) && !system(*install, directory)
      next puts("lint:workflows: skipped, because npm cannot install GitHub's parser")
    end

    sh "node", "bin/support/check_workflows.mjs", directory, *Dir[".github/workflows/*.yml"]
  end

  desc "The rules of the architecture"
  task :architecture do
    ruby "bin/support/check_architecture"
  end
end

desc "All linters"
task lint: %w[lint:rust lint:ruby lint:docs lint:workflows lint:architecture]

task default: %w[spec lint]
