# frozen_string_literal: true

require "open3"

RSpec.describe "bench/sql_functions" do
  # Reads all tasks, so its time grows with them by design.
  unmeasured = %w[recount_tasks]

  it "measures every SQL function that no other function calls" do
    sources = Dir["#{root}/db/functions/**/*.sql"].to_h do |path|
      [File.basename(path, ".sql"), File.read(path).gsub(/^\s*--.*/, "").sub(/create function \S+\(/, "")]
    end
    outer = sources.keys.reject { |name| sources.each_value.any? { |sql| sql.include?("tasker_core_v1.#{name}(") } }
    measured = File.read("#{root}/bench/sql_functions").scan(/"(\w+)\(/).flatten
    expect(outer - measured).to match_array unmeasured
  end

  it "runs to its end" do
    variables = { "DATABASE_URL" => nil }
    output, = Open3.capture2e(variables, RbConfig.ruby, "#{root}/bench/sql_functions", "--steps", "500", chdir: root)
    expect(output.lines.last).to start_with("slowest_tasks"), output
  end
end
