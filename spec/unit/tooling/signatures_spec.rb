# frozen_string_literal: true

require "open3"
require "rbs"
require "yard"

# The public API is what YARD documents (not `@api private`), without the controllers, whose API is HTTP.
RSpec.describe "The signatures in sig" do
  def private?(object)
    return false if object.nil? || object.root?

    object.tag(:api)&.text.to_s.start_with?("private") || object.has_tag?(:private) || private?(object.namespace)
  end

  def documented
    YARD::Registry.clear
    YARD.parse(Dir["{app/models,lib}/**/*.rb"], [], YARD::Logger::ERROR)
    YARD::Registry.all(:class, :method).select do |object|
      object.path.start_with?("TaskerCore") && object.visibility == :public && !private?(object)
    end
  end

  def declarations(members, outer = nil)
    members.select { |member| member.respond_to?(:members) }.flat_map do |member|
      name = [outer, member.name.to_s].compact.join("::")
      [[name, member], *declarations(member.members, name)]
    end
  end

  def declared
    Dir["sig/**/*.rbs"].sort.flat_map do |path|
      _, _, parsed = RBS::Parser.parse_signature(RBS::Buffer.new(name: path, content: File.read(path)))
      declarations(parsed)
    end
  end

  def method_names(name, declaration)
    names = declaration.members.flat_map do |member|
      case member
      when RBS::AST::Members::MethodDefinition then "#{member.kind == :instance ? '#' : '.'}#{member.name}"
      when RBS::AST::Members::AttrReader then "##{member.name}"
      when RBS::AST::Members::AttrAccessor then ["##{member.name}", "##{member.name}="]
      else []
      end
    end
    names.map { |method| "#{name}#{method}" }
  end

  it "are valid" do
    libraries = YAML.load_file("sig/manifest.yaml").fetch("dependencies").flat_map { |library| ["-r", library["name"]] }
    output, status = Open3.capture2e("rbs", "-I", "sig", "-I", "spec/support/signatures", *libraries, "validate")
    expect(status).to be_success, output
  end

  it "declare every public class, and every public method and no other" do
    objects = documented
    public_methods = objects.select { |object| object.type == :method }.map(&:path)
    signatures = declared.flat_map { |name, declaration| method_names(name, declaration) }
    expect(public_methods - signatures).to be_empty, "without a signature: #{(public_methods - signatures).join(', ')}"
    expect(signatures - public_methods).to be_empty, "not public: #{(signatures - public_methods).join(', ')}"
    classes = objects.select { |object| object.type == :class }.map(&:path).grep_v(/Generators|Engine/)
    expect(declared.map(&:first)).to include(*classes)
  end

  it "are part of the gem" do
    expect(Gem::Specification.load("tasker_core.gemspec").files).to include("sig/manifest.yaml", *Dir["sig/**/*.rbs"])
  end
end
