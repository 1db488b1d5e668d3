# frozen_string_literal: true

require_relative "build_requirements"

problem = TaskerCore::BuildRequirements.new.problem
abort problem if problem

require "mkmf"
require "rb_sys/mkmf"

create_rust_makefile("tasker_core/tasker_core") do |builder|
  # Removed when RubyGems has installed the library: its copy here, and all that cargo built, which takes half a
  # gigabyte. rb_sys itself removes one directory of target only.
  builder.rubygems_clean_dirs += %w[$(DLLIB) target]
end
