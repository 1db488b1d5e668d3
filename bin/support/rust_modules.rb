# frozen_string_literal: true

require "tsort"

# The dependencies between the modules of a Rust crate, read from its paths (`use` declarations, and `crate::`,
# `super::` and child paths in the code). A name that a module re-exports belongs to the module that defines it, so a
# facade of re-exports depends on nothing. The root (lib.rs) is left out: it names every module.
class RustModules
  # @param directory [String] a crate's `src`
  def initialize(directory)
    @files = Dir["#{directory}/**/*.rs"].reject { |path| File.basename(path) == "tests.rs" }
                                        .to_h { |path| [module_of(path, directory), code(path)] }
    @exports = @files.transform_values { |code| exports(code) }
  end

  # @return [Array<String>] the modules of each circle, as in "a::b, a::c"
  def circles
    (circles_of(dependencies) + circles_of(wings)).uniq
  end

  private

  def circles_of(graph)
    each_node = ->(&block) { graph.each_key(&block) }
    components = TSort.strongly_connected_components(each_node, ->(node, &block) { graph[node].each(&block) })
    circles = components.select { |modules| modules.size > 1 }
    circles.map { |modules| modules.map { |name| name.join("::") }.sort.join(", ") }
  end

  # @return [Hash{Array<String> => Array<Array<String>>}]
  def dependencies
    @dependencies ||= @files.reject { |from, _| from.empty? }.to_h do |from, code|
      uses = declarations(code).reject { |public, _| public }.flat_map { |_, tree| paths(tree) }
      [from, (uses + inline_paths(from, code)).filter_map { |path| target(from, path) }.uniq - [from, []]]
    end
  end

  # The same between the directories of modules.
  def wings
    edges = dependencies.flat_map { |from, targets| targets.map { |to| [from.first(1), to.first(1)] } }.uniq
    edges.reject! { |from, to| from == to }
    edges.flatten(1).uniq.to_h { |wing| [wing, edges.select { |from, _| from == wing }.map(&:last)] }
  end

  # @return [Hash{String => Array<String>}] re-exported names, with the path of each
  def exports(code)
    declarations(code).select { |public, _| public }.flat_map { |_, tree| paths(tree) }
                      .to_h { |path| [path.last, path] }
  end

  # @return [Array<Array(Boolean, String)>] each `use`: whether it is public, and its tree
  def declarations(code)
    code.scan(/^\s*(pub(?:\([^)]*\))?\s+)?use\s+([^;]+);/m).map { |public, tree| [!public.nil?, tree] }
  end

  # @return [Array<Array<String>>] of `a::{b, c::{d, e}}`: a b, a c d, a c e
  def paths(tree)
    head, group = tree.gsub(/\s+as\s+\w+/, "").gsub(/\s+/, "").match(/\A(?:(.*?)::)?(\{.*\})\z/m)&.captures
    return [tree.gsub(/\s+as\s+\w+|\s+/, "").split("::")] unless group

    parts(group[1..-2]).flat_map { |part| paths(part) }
                       .map { |path| head.to_s.split("::") + (path == ["self"] ? [] : path) }
  end

  # Splits at the commas outside of braces.
  def parts(group)
    depth = 0
    parts = group.each_char.slice_when do |before, _|
      depth += { "{" => 1, "}" => -1 }.fetch(before, 0)
      before == "," && depth.zero?
    end
    parts.map { |chars| chars.join.delete_suffix(",") }.reject(&:empty?)
  end

  def inline_paths(from, code)
    code = code.gsub(/^\s*(?:pub(?:\([^)]*\))?\s+)?use\s+[^;]+;/m, "")
    children = @files.keys.select { |name| name[0...-1] == from && name != from }.map(&:last)
    starts = ["crate", "super", *children].join("|")
    code.scan(/(?<![\w:$])(?:#{starts})(?:::\w+)+/).map { |path| path.split("::") }
  end

  # @return [Array<String>, nil] the module that defines what a path names; nil for one of another crate
  def target(from, path)
    base, rest = start(from, path)
    base && resolve(base, rest)
  end

  def start(from, path)
    first, *rest = path
    case first
    when "crate" then [[], rest]
    when "self" then [from, rest]
    when "super"
      further = rest.take_while { |name| name == "super" }.size
      [from[0...(-1 - further)], rest.drop(further)]
    else [from, path] if @files.key?([*from, first])
    end
  end

  def resolve(base, rest)
    name, *others = rest
    return base unless name
    return resolve([*base, name], others) if @files.key?([*base, name])

    exported = @exports.fetch(base, {})[name]
    exported && exported != [name] ? target(base, exported) || base : base
  end

  def module_of(path, directory)
    names = path.delete_prefix("#{directory}/").delete_suffix(".rs").split("/")
    names.last == "mod" ? names[0...-1] : names - ["lib"]
  end

  # Without comments, and without the tests at the end of the file.
  def code(path)
    lines = File.readlines(path, encoding: "UTF-8").take_while do |line|
      line.strip != "#[cfg(test)]" || !path.end_with?(".rs")
    end
    lines.reject { |line| line.lstrip.start_with?("//") }.join
  end
end
