# frozen_string_literal: true

require_relative "../../../bin/support/rust_modules"

# What `bin/support/check_architecture` knows of the modules of a crate.
RSpec.describe RustModules do
  def circles(files)
    Dir.mktmpdir do |directory|
      files.each do |name, text|
        FileUtils.mkdir_p(File.dirname("#{directory}/#{name}"))
        File.write("#{directory}/#{name}", text)
      end
      described_class.new(directory).circles
    end
  end

  it "finds a circle of two modules" do
    expect(circles("a.rs" => "use crate::b::{One, Two};", "b.rs" => "use super::a::Three;")).to eq ["a, b"]
  end

  it "finds a circle of a module and its child" do
    files = { "a.rs" => "mod child;\nfn run() { child::run() }", "a/child.rs" => "use super::Helper;" }
    expect(circles(files)).to eq ["a, a::child"]
  end

  it "finds a circle of directories without one of modules" do
    files = { "a.rs" => "", "a/one.rs" => "use crate::b::one::X;", "a/two.rs" => "", "b.rs" => "", "b/one.rs" => "",
              "b/two.rs" => "fn f() -> crate::a::two::Y {}" }
    expect(circles(files)).to eq ["a, b"]
  end

  it "follows a re-export to the module that defines the name" do
    facade = { "a.rs" => "mod one;\nmod two;\npub use one::One;\npub use self::two::{Two, Three};",
               "a/one.rs" => "use super::Two;" }
    expect(circles(facade.merge("a/two.rs" => ""))).to eq []
    expect(circles(facade.merge("a/two.rs" => "use super::One;"))).to eq ["a::one, a::two"]
  end

  it "ignores comments, tests and other crates" do
    files = { "a.rs" => "use serde::Serialize;\n// use crate::b::One;\n#[cfg(test)]\nmod tests { use crate::b::One; }",
              "b.rs" => "use crate::a::Two as Three;" }
    expect(circles(files)).to eq []
  end
end
